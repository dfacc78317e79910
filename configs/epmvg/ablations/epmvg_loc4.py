# Table 4, row 4: at the CNN and BERT's embeddings, where [CLS] is the same for every query.
_base_ = '../transvg_r50_refcoco.py'

image_tap = dict(module='backbone')
text_tap = dict(module='language_model.bert.embeddings')
default_hooks = dict(distillation=dict(image_tap=image_tap, text_tap=text_tap))
