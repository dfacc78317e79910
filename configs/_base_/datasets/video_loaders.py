# What the video data sets share: 64 frames at equal distances (spec vcma 2.4), tubes of detections that
# tools/analysis_tools/extract_video_regions.py made.
sample = dict(type='SampleFrames', protocol='uniform', num_frames=64)
train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
)
test_dataloader = val_dataloader
