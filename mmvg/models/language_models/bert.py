import os.path as osp

from mmdet.registry import MODELS
from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from torch import Tensor
from transformers import BertConfig, BertModel
from transformers.utils import cached_file

_WEIGHTS = ('model.safetensors', 'pytorch_model.bin')


@MODELS.register_module()
class BertEncoder(BaseModule):
    """Hugging Face BERT over tokenised queries (spec 1.2, 1.5).

    mmdet's ``BertModel`` tokenises inside ``forward``, pads to 256 tokens, needs the hub to be
    built, and calls functions that transformers 5 has removed.

    The weights are read in ``init_weights``, which a runner calls before training: a model that
    gets a checkpoint anyway (testing, inference) is built without any access to the hub.

    Args:
        pretrained (str, optional): Local folder, or name on the Hugging Face hub. None: random
            weights.
        config (dict, optional): ``BertConfig`` keys. Default: those in the folder ``pretrained`` if
            it is one, otherwise the architecture of bert-base.
        num_layers (int, optional): Keep only the first layers; 0 leaves the embeddings.
        with_cp (bool): Gradient checkpointing.
    """

    def __init__(
        self,
        pretrained: str | None = 'bert-base-uncased',
        config: dict | None = None,
        num_layers: int | None = None,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        self.pretrained = pretrained
        if (
            config is None
            and pretrained is not None
            and osp.isfile(osp.join(pretrained, 'config.json'))
        ):
            bert_config = BertConfig.from_pretrained(pretrained)
        else:
            bert_config = BertConfig(**(config or {}))
        if num_layers is not None:
            bert_config.num_hidden_layers = num_layers
        self.bert = BertModel(bert_config)
        # No output of ours depends on the pooler. It stays so that official checkpoints go through
        # unchanged, and is frozen so that DDP does not wait for its gradients.
        self.bert.pooler.requires_grad_(False)
        if with_cp:
            self.bert.gradient_checkpointing_enable(dict(use_reentrant=False))

    @property
    def vocab_size(self) -> int:
        """Number of word pieces that have an embedding."""
        return self.bert.config.vocab_size

    @property
    def embed_dims(self) -> int:
        """Width of the output features."""
        return self.bert.config.hidden_size

    def check_pretrained(self) -> None:
        """Find or download the pretrained weights, so that a training can say early what it lacks.

        Raises:
            FileNotFoundError: If they are neither in a local folder nor to be had from the hub.
        """
        problem = None
        for name in _WEIGHTS if self.pretrained is not None else ():
            try:
                cached_file(self.pretrained, name)
                return
            except (OSError, ValueError) as e:
                problem = e
        if problem is not None:
            raise self._not_found() from problem

    def _not_found(self) -> FileNotFoundError:
        return FileNotFoundError(
            f"BERT weights '{self.pretrained}' were not found, neither as a local folder nor on the "
            'Hugging Face hub; put config.json, vocab.txt and model.safetensors (or '
            'pytorch_model.bin) into a folder (they are at huggingface.co/google-bert/bert-base-uncased) '
            'and set the environment variable MMVG_TEXT_MODEL, or the config variable text_model and '
            "pretrained of the model's BertEncoder, to it"
        )

    def init_weights(self) -> None:
        """Load the pretrained weights; random ones stay as ``BertModel`` made them.

        Raises:
            FileNotFoundError: If the folder or the hub model cannot be read.
            ValueError: If the weights do not fit ``config``.
        """
        super().init_weights()
        if self.pretrained is None:
            return
        try:
            source, report = BertModel.from_pretrained(
                self.pretrained, config=self.bert.config, output_loading_info=True
            )
        except OSError as e:
            raise self._not_found() from e
        except RuntimeError as e:
            raise ValueError(
                f"BERT weights '{self.pretrained}' do not fit the configured architecture: {e}"
            ) from e
        missing = [k for k in report['missing_keys'] if 'pooler' not in k]
        if missing or report['mismatched_keys']:
            raise ValueError(
                f"BERT weights '{self.pretrained}' do not fit the configured architecture: "
                f'missing {missing[:5]}, other shape {list(report["mismatched_keys"])[:5]}'
            )
        self.bert.load_state_dict(source.state_dict())
        MMLogger.get_current_instance().info(f"BERT weights loaded from '{self.pretrained}'")

    def forward(self, input_ids: Tensor, text_padding_mask: Tensor) -> dict[str, Tensor]:
        """Encode queries.

        Args:
            input_ids (Tensor): Q x T token ids.
            text_padding_mask (Tensor): Q x T bool, True = padding.

        Returns:
            dict: ``text_tokens`` Q x T x C of the last layer, and ``text_padding_mask`` unchanged.
        """
        out = self.bert(input_ids=input_ids, attention_mask=(~text_padding_mask).long())
        return dict(text_tokens=out.last_hidden_state, text_padding_mask=text_padding_mask)
