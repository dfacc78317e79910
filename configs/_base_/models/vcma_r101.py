# VCMA on tubes of a Faster R-CNN R-101-FPN: 1024-d features, BERT for the sentences. The paper's own
# sizes are not known (spec vcma 6); these are ours.
num_clips = 32
# How regions of frames are described, when they are extracted and when videos of users are seen.
region_extractor = dict(layer='neck', max_boxes=20, score_thr=0.05, nms_iou=0.5)
linker = dict(type='TubeLinker', alpha=0.5, max_tubes=20)
text_model = '{{$MMVG_TEXT_MODEL:bert-base-uncased}}'
model = dict(
    type='VCMA',
    data_preprocessor=dict(type='VideoDataPreprocessor'),
    language_model=dict(
        type='FrozenBertEncoder', bert=dict(pretrained=text_model), tokenizer=text_model
    ),
    linker=linker,
    num_clips=num_clips,
    tube_head=dict(
        type='VideoTubeHead',
        text_dims=768,
        tube_dims=1024 + 5,
        frame_dims=1024,
        beta=1.0,  # and ``predicates``, which come with the data
    ),
)
