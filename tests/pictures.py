"""JPEGs and PNGs for the readers of pictures, made without the code that reads them."""

import base64
import struct
import zlib
from fractions import Fraction

import av
import numpy as np

GREY, COLOUR, PALETTE = 0, 2, 3


def _unpacked(text: str) -> bytes:
    return zlib.decompress(base64.b85decode(text))


CMYK = _unpacked(
    "c-s4a<NrGbKF5^&q*R6!1`zmvo57iZnTZL6fPe*vSUFf(Sy))P*xA`Qc({0YxVgBwdHI9{c=-hRxVZ(y1O$aeL`6k;_{Al}L?nbnL`D7|U=ZP85M"
    "U5saTa9o6=aAMWbhVb_<w{!o`Hdpl@SaWpn#DHXagHN2PYRdP{CFK1|~*kW+oP9kexu;TA(}wiy*6zqM;+3a9|?4QlW@Z<HUs=%1#>(iUwW$pkka"
    "<)WpdpCN3c<rK+Z`p{ZqJYG!U>Y31zV>gMj@=@lFj8WtWA8I_!pnwFlCnN?g;T2@|BS=HRq+ScCD*)?hMl&RCE&zL!D(c&dbmn~nha@D5ITefc7z"
    "GLUELx+zXJ$C%W$y1juU%7hi`i+~n9zJ^f<mt2LFJ8X-`04YPuiw7^`1$MqEe1XoX9iz}NCs~P2787-tJYt&`Wp-+G#2gG%Ko)t{nNOvzhR5Iv_C"
    "D||NkZc=V^K+"
)
"""A JPEG of 16 x 16 in cyan, magenta, yellow and black: the left half cyan over magenta, the right half darker."""

GREYS = _unpacked(
    "c-s4a<NpH&0WUXCHwH#V1_nkTWcYuZ!I^=H5d=Ua69}*{gGg2u7G@SURyH;;X6NJpVs<t*4sH%kE)W2+c(}QEK%D;v7`QnY1Q-Mu83h^sA7PLO8q"
    "Nwf6KDejFfuW-u(GiO^>PChY!v|7$;=G2i4|xKP_`B*&%h$cDx_%W$R-?^$gWf<V$?WsA&0Wl#)G0k7eA;NClxhua*2scNJ^=yscUFznV6cHTUc5"
    "-ySTc!dw6;UhlGZOM?^*?r=+H(XJlp-mz0*3S5#Itx3spkcXW15nmlFdwCOWu&RVp1$<k%ZSFBvMY4et?+qUo6x$Ds3BS()NKXLNZrOQ{YUb}wd="
    "B<a19zS{d?D>nAuRebI{N?Mn?>~P2`hSao1LPljhClx6Upws=eEpv5|4jh?+Gz{"
)
"""A JPEG of 16 x 16 in grey alone: quarters of 20, 200, 90 and 150."""


def png(levels: np.ndarray, bits: int = 8, colour: int = GREY) -> bytes:
    """A PNG of (H, W) levels or indices, of `bits` each, or of (H, W, 3) colours."""
    height, width = levels.shape[:2]
    if bits == 16:
        rows = [row.astype(">u2").tobytes() for row in levels]
    elif bits < 8:
        planes = (levels[..., None] >> np.arange(bits)[::-1]) & 1
        rows = [np.packbits(row).tobytes() for row in planes.reshape(height, -1)]
    else:
        rows = [row.astype(np.uint8).tobytes() for row in levels]
    palette = bytes(range(255, -1, -1)) * 3 if colour == PALETTE else b""  # no colour is its index
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))]
    chunks += [(b"PLTE", palette[: 3 * 2**bits])] if palette else []
    chunks += [(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def jpeg(colours: np.ndarray) -> bytes:
    """A JPEG of (H, W, 3) colours."""
    codec = av.CodecContext.create("mjpeg", "w")
    codec.height, codec.width = colours.shape[:2]
    codec.pix_fmt, codec.time_base, codec.color_range = "yuvj444p", Fraction(1), 2
    codec.options = {"qmin": "1", "qmax": "1"}
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(colours), format="rgb24")
    return b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])
