# TransVG's architecture at a size that learns on a CPU in minutes: 64 px canvas, 8 x 8 visual tokens.
_base_ = './shapes_r18.py'

model = dict(
    type='TransVG',
    data_preprocessor=dict(type='GroundingDataPreprocessor'),
    neck=dict(
        type='ChannelMapper',
        in_channels=[64],
        kernel_size=1,
        out_channels=64,
        norm_cfg=None,
        act_cfg=None,
        num_outs=1,
        init_cfg=None,
    ),
    visual_encoder=dict(
        type='DETRVisualEncoder',
        embed_dims=64,
        num_layers=1,
        num_heads=4,
        feedforward_channels=128,
        dropout=0.0,
    ),
    language_model=dict(
        type='BertEncoder',
        pretrained=None,
        config=dict(
            vocab_size=64,
            hidden_size=64,
            num_hidden_layers=1,
            num_attention_heads=4,
            intermediate_size=128,
            max_position_embeddings=32,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            # BERT's 0.02 is meant for width 768; here it would leave the text almost unmixed.
            initializer_range=0.1,
        ),
    ),
    bbox_head=dict(
        type='RegTokenHead',
        visual_channels=64,
        text_channels=64,
        embed_dims=64,
        num_layers=4,
        num_heads=4,
        feedforward_channels=128,
        dropout=0.0,
        max_query_len=14,
        num_visual_tokens=64,
        text_gain=4.0,  # ours, not TransVG's: see RegTokenHead
    ),
)
