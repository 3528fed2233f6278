"""The experiment that is harmed: seconds long, with two stages of training and decisions for each clip."""

from tiny_profile import tiny_profile

PROFILE = tiny_profile("table10", [8], (24, 8, 12), blocks=(1,), epochs=2, clips=2, smoke=True)
METHOD = "vared/r2plus1d_18"
EVALUATE = ("evaluate", METHOD, "--profile", "tiny.toml", "--frames", "8", "--results", "runs")
REPORT = ("report", "--results", "runs")
REPRODUCE = ("reproduce", "--profile", "tiny.toml", "--results", "runs", "--jobs", "2")
