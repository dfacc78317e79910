# What distillation brings on Shapes, for ../train_table.py. With half the scenes of the quickstart a run
# takes about five minutes on one idle CPU core.
config = 'epmvg/transvg_shapes'
common = dict(train_dataloader=dict(dataset=dict(num_scenes=8000)))
initial = dict(config='transvg/fcos_shapes', parts=['backbone', 'neck'])
columns = {
    'all': 'test/acc@0.5',
    'attribute': 'test/attribute/acc@0.5',
    'location': 'test/location/acc@0.5',
    'ordering': 'test/ordering/acc@0.5',
    'relation': 'test/relation/acc@0.5',
    'mean IoU': 'test/miou',
}
curve = dict(key='val/acc@0.5', target=60)

rows = {
    'no distillation': dict(default_hooks=dict(distillation=dict(alpha=0.0, beta=0.0))),
    'image and text, Loc. 1': dict(),
    'image only': dict(default_hooks=dict(distillation=dict(beta=0.0))),
    'text only': dict(default_hooks=dict(distillation=dict(alpha=0.0))),
    'Loc. 2': dict(
        default_hooks=dict(
            distillation=dict(
                image_tap=dict(module='bbox_head.visual_proj', token='first_patch'),
                text_tap=dict(module='bbox_head.text_proj', token='cls'),
            )
        )
    ),
    'Loc. 3': dict(
        default_hooks=dict(
            distillation=dict(
                image_tap=dict(module='visual_encoder', token='first_patch'),
                text_tap=dict(module='language_model', token='cls'),
            )
        )
    ),
    'Loc. 4': dict(
        default_hooks=dict(
            distillation=dict(
                image_tap=dict(module='backbone', token='first_patch'),
                text_tap=dict(module='language_model.bert.embeddings', token='cls'),
            )
        )
    ),
    'learnable VLS': dict(
        model=dict(bbox_head=dict(learnable_vls=True)),
        default_hooks=dict(
            distillation=dict(image_tap=dict(module='bbox_head.fusion', token='learnable'))
        ),
    ),
    'mean of the image': dict(
        default_hooks=dict(
            distillation=dict(image_tap=dict(module='bbox_head.fusion', token='mean_valid'))
        )
    ),
}
