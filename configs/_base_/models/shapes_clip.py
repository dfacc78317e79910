# The small CLIP that teaches on Shapes, as a teacher of CLIPDistillationHook. Its weights come with mmvg;
# tools/misc/train_shapes_clip.py makes them.
shapes_clip = dict(
    type='OpenCLIPTeacher',
    config=dict(
        embed_dim=64,
        # CLIP's ResNet: on this little data it learns much faster than a ViT of the same cost.
        vision_cfg=dict(image_size=64, layers=[1, 1, 1, 1], width=8, head_width=32),
        text_cfg=dict(
            context_length=20,  # a caption of four shapes has up to 16 words; [CLS] and [SEP]
            vocab_size=64,
            width=64,
            heads=4,
            layers=2,
            pool_type='eos',
            eos_id=3,  # [SEP] of the tokenizer
        ),
    ),
    pretrained='{{ fileDirname }}/../../epmvg/shapes_clip.safetensors',
    tokenizer='builtin:shapes',
)
