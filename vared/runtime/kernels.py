"""Triton kernels that follow decisions read on the device: a convolution, and the whole that is stored compact.

The only file that imports Triton, which is optional. Features lie channels-last, (B, T, H, W, C); of a sample only the
first ⌈C/2ⁱ⌉ channels of every `grain`-th frame are stored, where i is its dearest open option. Blocks of the output
beyond what a sample decided leave at once, and sums run over the channels that its input has.

Plain features of Triton alone, so that one source serves its releases; integer division only of what is not negative,
which compiled code and the interpreter round alike.
"""

import triton
import triton.language as tl


@triton.jit
def opened(weights, OPTIONS: tl.constexpr):
    """The dearest open option (the cheapest if none is), 2 to its power, how many are open, and the sum of weights."""
    first = tl.full([], OPTIONS - 1, tl.int32)
    divisor = tl.full([], 2 ** (OPTIONS - 1), tl.int32)
    number = tl.full([], 0, tl.int32)
    total = tl.full([], 0.0, tl.float32)
    for back in tl.static_range(OPTIONS):
        value = tl.load(weights + (OPTIONS - 1 - back)).to(tl.float32)
        first = tl.where(value > 0, OPTIONS - 1 - back, first)
        divisor = tl.where(value > 0, 2 ** (OPTIONS - 1 - back), divisor)
        number += tl.where(value > 0, 1, 0)
        total += tl.where(value <= 0, 0.0, value)  # what is no number stays so, and shows in the answer
    return first, divisor, number, total


@triton.jit
def products(
    x,
    x_pitch,
    x_frame,
    weight,
    w_pitch,
    w_option,
    channel_weights,
    channel_total,
    frame_weights,
    frame_total,
    grain,
    row,
    first_y,
    first_x,
    filters,
    column,
    low,
    high,
    start,
    channels_in,
    depth,
    frames_height,
    frames_width,
    CHANNELS: tl.constexpr,
    FRAMES: tl.constexpr,
    KT: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    DH: tl.constexpr,
    DW: tl.constexpr,
    RUN: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    PRECISION: tl.constexpr,
    INTERPRETED: tl.constexpr,
    MIXED: tl.constexpr,
):
    """A block (ROWS pixels, COLUMNS filters) of one output frame, and the products in a sum: groups × taps × channels.

    Taps low..high fall on frames that exist. Those on one stored frame are one group, whose weights are added up
    beforehand. MIXED: features and weights are sums over the open options, by their shares.
    """
    k = tl.arange(0, DEPTH)
    blocks = (depth + DEPTH - 1) // DEPTH
    taps: tl.constexpr = KH * (KW // RUN)
    first_group = (start + low) // grain
    groups = tl.where(high >= low, (start + tl.maximum(high, low)) // grain - first_group + 1, 0)
    total = tl.full([ROWS, COLUMNS], 0.0, tl.float32)
    done = tl.full([], 0, tl.int32)
    for step in range(0, groups * taps * blocks):
        frame = (first_group + step // (taps * blocks)) * grain
        tap = step // blocks % taps
        place = step % blocks * DEPTH + k
        begin = tl.maximum(low, frame - start)
        longer = tl.minimum(high, frame + grain - 1 - start) - begin
        span = longer * KT - longer * (longer - 1) // 2 + begin

        y = first_y + tap // (KW // RUN) * DH
        left = first_x + tap % (KW // RUN) * DW
        if RUN == 1:
            there = (row & (y >= 0) & (y < frames_height) & (left >= 0) & (left < frames_width))[:, None]
        else:  # several taps of one line lie side by side, and so do their channels
            at = left[:, None] + (place // channels_in)[None, :]
            there = (row & (y >= 0) & (y < frames_height))[:, None] & (at >= 0) & (at < frames_width)
        there = there & (place < depth)[None, :]
        offset = ((y * frames_width + left) * x_pitch)[:, None] + place[None, :]
        w_offset = ((span * (KH * KW) + tap * RUN) * channels_in + place)[:, None] * w_pitch + filters[None, :]
        w_there = (place < depth)[:, None] & column[None, :]
        if MIXED:
            a = tl.full([ROWS, DEPTH], 0.0, tl.float32)
            for option in tl.static_range(FRAMES):
                share = tl.full([], 1.0, tl.float32)
                if FRAMES > 1:
                    share = tl.load(frame_weights + option).to(tl.float32) / frame_total
                copies = tl.maximum(grain, 2**option)
                source = frame // copies * copies
                wanted = there & (place < tl.where(share <= 0, 0, depth))[None, :]
                a += share * tl.load(x + source * x_frame + offset, wanted, other=0.0).to(tl.float32)
            b = tl.full([DEPTH, COLUMNS], 0.0, tl.float32)
            for option in tl.static_range(CHANNELS):
                share = tl.full([], 1.0, tl.float32)
                if CHANNELS > 1:
                    share = tl.load(channel_weights + option).to(tl.float32) / channel_total
                wanted = w_there & (place < tl.where(share <= 0, 0, depth))[:, None]
                part = tl.load(weight + option * w_option + w_offset, wanted, other=0.0)
                b += share * part.to(tl.float32)
            a = a.to(x.dtype.element_ty)
            b = b.to(x.dtype.element_ty)
        else:
            a = tl.load(x + frame * x_frame + offset, there, other=0.0)
            b = tl.load(weight + w_offset, w_there, other=0.0)
        if INTERPRETED:  # whose products know no bfloat16
            a = a.to(tl.float32)
            b = b.to(tl.float32)
        total = tl.dot(a, b, total, input_precision=PRECISION)
        done += tl.minimum(DEPTH, depth - step % blocks * DEPTH)
    return total, done


@triton.jit
def convolve(
    x,
    weight,
    bias,
    out,
    steps,
    tally,
    x_weights,
    x_steps,
    out_weights,
    x_row,
    x_split,
    out_row,
    out_split,
    x_sample,
    x_frame,
    x_pitch,
    out_sample,
    out_frame,
    out_pitch,
    w_option,
    w_pitch,
    channels_in,
    frames_in,
    height_in,
    width_in,
    channels_out,
    frames_out,
    height_out,
    width_out,
    X_CHANNELS: tl.constexpr,
    X_FRAMES: tl.constexpr,
    OUT_CHANNELS: tl.constexpr,
    OUT_FRAMES: tl.constexpr,
    X_UNIT: tl.constexpr,
    OUT_UNIT: tl.constexpr,
    STORED: tl.constexpr,
    INHERITS: tl.constexpr,
    KT: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    ST: tl.constexpr,
    SH: tl.constexpr,
    SW: tl.constexpr,
    PT: tl.constexpr,
    PH: tl.constexpr,
    PW: tl.constexpr,
    DH: tl.constexpr,
    DW: tl.constexpr,
    RUN: tl.constexpr,
    RELU: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    INTERPRETED: tl.constexpr,
    TALLY: tl.constexpr,
):
    """Of a convolution with bias, and ReLU where asked, what each sample decided; grid (blocks, frames, samples).

    *_weights: of the options, channels from column 0, frames from column *_split. STORED: whether x is, compact;
    X_CHANNELS, X_FRAMES, OUT_CHANNELS, OUT_FRAMES: how many options. X_UNIT, OUT_UNIT: divide the channels of every
    option, which changes no number, but a compiler that knows it reads and writes many at once. steps: every how many
    frames were written.
    INHERITS: frames that are copies give frames that are copies. tally: multiply-adds of each sample, if TALLY.
    """
    sample = tl.program_id(2)
    filter_blocks = (channels_out + COLUMNS - 1) // COLUMNS
    first_filter = tl.program_id(0) % filter_blocks * COLUMNS
    first_pixel = tl.program_id(0) // filter_blocks * ROWS

    grain = tl.full([], 1, tl.int32)
    if STORED:
        grain = tl.load(x_steps + sample)
    step = tl.full([], 1, tl.int32)
    if OUT_FRAMES > 1:
        _, step, _, _ = opened(out_weights + sample * out_row + out_split, OUT_FRAMES)
    if INHERITS:
        step = tl.maximum(step, tl.where(grain % ST == 0, grain // ST, 1))
    if (tl.program_id(0) == 0) & (tl.program_id(1) == 0):
        tl.store(steps + sample, step)
    count = channels_out
    if OUT_CHANNELS > 1:
        _, divisor, _, _ = opened(out_weights + sample * out_row, OUT_CHANNELS)
        count = (channels_out + divisor - 1) // divisor // OUT_UNIT * OUT_UNIT
    frame = tl.program_id(1) * step
    if (frame >= frames_out) | (first_filter >= count):
        return

    channels = channels_in
    w_first = weight
    factor = tl.full([], 1.0, tl.float32)
    channel_total = factor
    frame_total = factor
    several = tl.full([], 0, tl.int1)
    if X_CHANNELS > 1:
        option, divisor, number, channel_total = opened(x_weights + sample * x_row, X_CHANNELS)
        channels = (channels_in + divisor - 1) // divisor // X_UNIT * X_UNIT
        w_first = weight + option * w_option
        several = several | (number > 1)
    if X_FRAMES > 1:
        _, _, number, frame_total = opened(x_weights + sample * x_row + x_split, X_FRAMES)
        several = several | (number > 1)
    factor = channel_total * frame_total

    pixel = first_pixel + tl.arange(0, ROWS)
    row = pixel < height_out * width_out
    filters = first_filter + tl.arange(0, COLUMNS)
    column = filters < count
    start = frame * ST - PT
    low = tl.maximum(-start, 0)
    high = tl.minimum(KT - 1, frames_in - 1 - start)
    x_first = x + sample.to(tl.int64) * x_sample
    first_y = pixel // width_out * SH - PH
    first_x = pixel % width_out * SW - PW
    if several:
        total, done = products(
            x_first, x_pitch, x_frame, weight, w_pitch, w_option,
            x_weights + sample * x_row, channel_total, x_weights + sample * x_row + x_split, frame_total,
            grain, row, first_y, first_x, filters, column, low, high, start, channels_in, channels * RUN,
            height_in, width_in, X_CHANNELS, X_FRAMES, KT, KH, KW, DH, DW, RUN,
            ROWS, COLUMNS, DEPTH, PRECISION, INTERPRETED, X_CHANNELS * X_FRAMES > 1,
        )  # fmt: skip
    else:
        total, done = products(
            x_first, x_pitch, x_frame, w_first, w_pitch, w_option,
            x_weights, channel_total, x_weights, frame_total,
            grain, row, first_y, first_x, filters, column, low, high, start, channels_in, channels * RUN,
            height_in, width_in, X_CHANNELS, X_FRAMES, KT, KH, KW, DH, DW, RUN,
            ROWS, COLUMNS, DEPTH, PRECISION, INTERPRETED, False,
        )  # fmt: skip
    total = total * factor + tl.load(bias + filters, column, other=0.0).to(tl.float32)[None, :]
    if RELU:
        total = tl.where(total < 0, 0.0, total)
    to = out + sample.to(tl.int64) * out_sample + frame * out_frame
    tl.store(to + (pixel * out_pitch)[:, None] + filters[None, :], total, row[:, None] & column[None, :])
    if TALLY:
        rows = tl.minimum(ROWS, height_out * width_out - first_pixel)
        tl.atomic_add(tally + sample, rows * tl.minimum(COLUMNS, count - first_filter) * done)


@triton.jit
def rebuild(
    x,
    scales,
    other,
    out,
    weights,
    steps,
    w_row,
    w_split,
    x_sample,
    x_frame,
    x_pitch,
    other_sample,
    other_frame,
    other_pitch,
    out_sample,
    out_frame,
    out_pitch,
    pixels,
    channels,
    CHANNELS: tl.constexpr,
    FRAMES: tl.constexpr,
    ADDED: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The whole of what is stored compact: Σ over open options of their weights times what they make of it.

    Plus another whole, if ADDED. scales (options, channels): of what each option makes. Grid (blocks, frames, samples).
    """
    sample = tl.program_id(2)
    frame = tl.program_id(1)
    column_blocks = (channels + COLUMNS - 1) // COLUMNS
    pixel = tl.program_id(0) // column_blocks * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(0) % column_blocks * COLUMNS + tl.arange(0, COLUMNS)
    there = (pixel < pixels)[:, None] & (channel < channels)[None, :]
    grain = tl.load(steps + sample)
    total = tl.full([ROWS, COLUMNS], 0.0, tl.float32)
    for later in tl.static_range(FRAMES):
        in_time = tl.full([], 1.0, tl.float32)
        if FRAMES > 1:
            in_time = tl.load(weights + sample * w_row + w_split + later).to(tl.float32)
        copies = tl.maximum(grain, 2**later)
        source = x + sample.to(tl.int64) * x_sample + frame // copies * copies * x_frame + pixel[:, None] * x_pitch
        for option in tl.static_range(CHANNELS):
            share = in_time
            if CHANNELS > 1:
                share = in_time * tl.load(weights + sample * w_row + option).to(tl.float32)
            count = (channels + 2**option - 1) // 2**option
            scale = tl.load(scales + option * channels + channel, channel < channels, other=0.0).to(tl.float32)
            wanted = there & (channel < tl.where(share <= 0, 0, channels))[None, :]
            y = tl.load(source + (channel % count)[None, :], wanted, other=0.0).to(tl.float32)
            total += share * scale[None, :] * y
    if ADDED:
        place = other + sample.to(tl.int64) * other_sample + frame * other_frame
        total += tl.load(place + (pixel * other_pitch)[:, None] + channel[None, :], there, other=0.0).to(tl.float32)
    to = out + sample.to(tl.int64) * out_sample + frame * out_frame
    tl.store(to + (pixel * out_pitch)[:, None] + channel[None, :], total, there)
