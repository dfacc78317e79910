# EpmVG's distillation as the text describes it (Eq. 5-8; spec 3.1): both modalities at Loc. 1, the last
# fusion layer, from a frozen CLIP. A leaf takes it over into its hooks, where every key can be changed.
# MMVG_CLIP_WEIGHTS: a file with the weights of CLIP, where they cannot be downloaded.
distillation = dict(
    type='CLIPDistillationHook',
    teacher=dict(
        type='OpenCLIPTeacher',
        model_name='ViT-B-32-quickgelu',  # the paper names no variant; OpenAI's have QuickGELU
        pretrained='{{$MMVG_CLIP_WEIGHTS:openai}}',
        preproc='letterbox',
    ),
    view='augmented',
    image_tap=dict(module='bbox_head.fusion', token='first_patch'),
    text_tap=dict(module='bbox_head.fusion', token='cls'),
    loss=dict(type='CosineDistillLoss'),
    alpha=1.5,
    beta=2.0,
)
