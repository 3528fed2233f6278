"""The experiment that is harmed: seconds long, with two stages of training and decisions for each clip."""

PROFILE = """
name = "tiny"
description = "a few steps on a handful of videos"
dataset = "digits"
size = 16
tables = ["table10"]
frames = [8]
seeds = [0]
other_seeds = [0]
smoke = true
[dataset_options]
train_videos = 24
validation_videos = 8
test_videos = 12
[network]
width = 4
blocks = [1]
stem = [1, 3, 3]
[recipe]
epochs = 2
batch = 8
[views]
clips = 2
crops = 1
"""
METHOD = "vared/r2plus1d_18"
EVALUATE = ("evaluate", METHOD, "--profile", "tiny.toml", "--frames", "8", "--results", "runs")
REPORT = ("report", "--results", "runs")
REPRODUCE = ("reproduce", "--profile", "tiny.toml", "--results", "runs", "--jobs", "2")
