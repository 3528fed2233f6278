"""The public video sets as users have them on disk: one table of their lists (`sets`), one builder.

The lists are read first, then the folder is listed once and every row looked up in it; no video is opened. All papers
compared with here report on the published validation list (the test list of UCF101, HMDB51, Diving48 and FCVID), whose
labels are public: it is the test split, and choices are made on a share drawn from the training list.
"""
