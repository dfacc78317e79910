# The rows of ReIR's Table 2 on generated captions, for ../train_table.py: matching in two stages (TSD),
# self-taught regression (STR), graph and relation classification (VOGN & RC).
_no_reg = dict(loss_reg_coarse=None, loss_reg_fine=None, refine='never')
_no_graph = dict(neck=None, loss_relation=None)

config = 'reir/reir_shapes'
initial = dict(config='transvg/fcos_shapes', parts=['backbone'])
columns = {
    'Acc': 'test/acc@0.5',
    'mean IoU': 'test/miou',
    'PointIt': 'test/point_it',
    'clear alone': 'test/alone/acc@0.5',
    'clear in context': 'test/in context/acc@0.5',
    'any proposal': 'test/upper_bound@0.5',
}
rows = {
    'baseline': dict(
        model=dict(
            stages=1,
            loss_recon_fine=None,
            loss_rank_fine=None,
            **_no_reg,
            **_no_graph,
        )
    ),
    'TSD': dict(model=dict(**_no_reg, **_no_graph)),
    'TSD + STR without query': dict(model=dict(bbox_head=dict(regressor='visual'), **_no_graph)),
    'TSD + STR': dict(model=dict(**_no_graph)),
    'TSD + VOGN & RC': dict(model=dict(**_no_reg)),
    'full, uniform graph': dict(model=dict(neck=dict(attention='uniform'))),
    'full': dict(),
}
