# The rows of ReIR's Table 2 on generated captions, for ../train_table.py: matching in two stages (TSD),
# self-taught regression (STR), graph and relation classification (VOGN & RC).
_base_ = '../../../configs/_base_/reir_profiles/argmax.py'
_no_reg = dict(loss_reg_coarse=None, loss_reg_fine=None, refine='never')
_no_graph = dict(neck=None, loss_relation=None)

config = 'reir/reir_shapes'
# Rows leave out losses, but all have the parameters of the full model (regressor, classifier of relations),
# some of which then get no gradient; without this, DDP would wait for it and fail.
common = dict(find_unused_parameters=True)
initial = dict(config='transvg/fcos_shapes', parts=['backbone'])
columns = {
    'Acc': 'test/acc@0.5',  # of the boxes that both stages agree on
    'coarse': 'test/coarse/acc@0.5',
    'fine': 'test/fine/acc@0.5',
    'clear in context': 'test/in context/acc@0.5',
    'Acc@0.7': 'test/acc@0.7',
    'mean IoU': 'test/miou',
    'Recall@5': 'test/recall@5',
    'any proposal': 'test/upper_bound@0.5',
    'any moved one': 'test/upper_bound_refined@0.5',
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
    # Without learning: the best box whose category fits.
    'category only': dict(
        train_cfg=None,
        train_dataloader=None,
        optim_wrapper=None,
        param_scheduler=None,
        model=_base_.profile,
    ),
}
