# VCMA at a size that learns on a CPU in minutes, for 64-d features of the detector of fcos_shapes_video.py.
num_clips = 16
# How regions of frames are described, when they are extracted and when videos of users are seen.
region_extractor = dict(roi_size=3, max_boxes=20, score_thr=0.05, nms_iou=0.5)
model = dict(
    type='VCMA',
    data_preprocessor=dict(type='VideoDataPreprocessor'),
    language_model=dict(type='HashedWordsEncoder', embed_dims=128),
    # A poor frame would end all paths of the default method.
    linker=dict(type='TubeLinker', method='hungarian', max_tubes=8, min_length=6),
    num_clips=num_clips,
    span='expected_iou',  # ours
    tube_head=dict(
        type='VideoTubeHead',
        text_dims=128,
        tube_dims=64 + 5,
        frame_dims=64,
        predicates=[
            'approach',
            'bounce_on',
            'chase',
            'cover',
            'move_away_from',
            'run_around',
            'stand_next_to',
            'swing_under',
        ],
        embed_dims=64,
        relation_dims=64,
        temporal='segment',
        beta=16.0,  # all of a clip's evidence: T
        # Ours: motion of either tube (some predicates differ in nothing else) and the clips around, clips
        # that show the likely tubes, a bar on two entities in one tube that says nothing of when, and
        # events that last 0.4 of the video on average.
        own_motion=True,
        relation_context=2,
        posterior_clip_tubes=True,
        same_tube_always=True,
        event_share=0.4,
    ),
)
