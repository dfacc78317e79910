import random
from collections.abc import Sequence

from mmdet.registry import DATASETS

from .grounding_dataset import GroundingDataset
from .shapes import CLASSES, EXPRESSION_TYPES, Scene, refer_to, render_scene, sample_scene


@DATASETS.register_module()
class ShapesGroundingDataset(GroundingDataset):
    """Generated scenes of textured shapes with expressions that single one of them out.

    Nothing is read from disk: scene i of a split follows from ``(seed, split, i)``. The target is
    drawn before the expression, so the picture alone never says which shape is meant; the best that
    any model can do without the text is :meth:`blind_ceiling`.

    Args:
        num_scenes (int): Number of images.
        split (str): Any name; different names give different scenes.
        seed (int): Seed of the generator.
        side (int): Side of the square image in pixels.
        num_shapes (tuple[int, int]): Least and largest number of shapes in a scene.
        queries_per_scene (int, optional): K (at most the number of shapes); each query refers to
            another shape. None refers to every shape.
        types (Sequence[str]): Kinds of expression: 'attribute', 'location', 'ordering', 'relation'.
        constant_query (str, optional): Replaces every query: the text-blind control.
    """

    METAINFO = dict(classes=CLASSES)

    def __init__(
        self,
        *args,
        num_scenes: int = 1000,
        split: str = 'train',
        seed: int = 0,
        side: int = 64,
        num_shapes: tuple[int, int] = (2, 4),
        queries_per_scene: int | None = None,
        types: Sequence[str] = EXPRESSION_TYPES,
        constant_query: str | None = None,
        **kwargs,
    ) -> None:
        unknown = set(types) - set(EXPRESSION_TYPES)
        if unknown:
            raise ValueError(
                f'unknown expression types {sorted(unknown)}; choose from {EXPRESSION_TYPES}'
            )
        self.num_scenes = num_scenes
        self.split = split
        self.seed = seed
        self.side = side
        self.num_shapes = tuple(num_shapes)
        self.queries_per_scene = queries_per_scene
        self.types = tuple(types)
        self.constant_query = constant_query
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Sample the scenes and their expressions; pictures are drawn on demand."""
        return [self._sample(i) for i in range(self.num_scenes)]

    def _sample(self, index: int) -> dict:
        rng = random.Random(f'{self.seed}/{self.split}/{index}')
        for _ in range(1000):
            scene = sample_scene(rng, self.side, self.num_shapes)
            referred = []
            for target in rng.sample(scene.shapes, len(scene.shapes)):
                expression = refer_to(rng, scene, target, self.types)
                if expression is not None:
                    referred.append((target, *expression))
            # Every shape can be meant: otherwise the picture alone would rule some out.
            if len(referred) == len(scene.shapes):
                break
        else:
            raise ValueError(
                f'no scene with {self.num_shapes} shapes found in which expressions of types '
                f'{self.types} single every shape out; allow more types or fewer shapes'
            )
        targets, queries, types = zip(*referred[: self.queries_per_scene], strict=True)
        if self.constant_query is not None:
            queries = [self.constant_query] * len(targets)
        return dict(
            img_path=f'shapes_{self.split}_{index:06d}.png',
            img_id=index,
            height=self.side,
            width=self.side,
            queries=list(queries),
            query_types=list(types),
            bboxes=[t.bbox for t in targets],
            scene=scene.to_dict(),
            source=f'generated scene {self.split}/{index} (seed {self.seed})',
        )

    def get_data_info(self, idx: int) -> dict:
        """The record of sample ``idx`` with its picture, uint8 BGR, as ``img``.

        ``instances`` lists *all* shapes of the scene in mmdet's format, asked for or not: with
        mmdet's ``LoadAnnotations`` any mmdet detector trains on these scenes.
        """
        info = super().get_data_info(idx)
        scene = Scene.from_dict(info.pop('scene'))
        info['img'] = render_scene(scene)
        info['instances'] = [
            dict(bbox=s.bbox, bbox_label=CLASSES.index(s.category), ignore_flag=0)
            for s in scene.shapes
        ]
        return info

    def blind_ceiling(self) -> float:
        """Accuracy of the best possible answer without the text.

        Each of the n shapes of a scene is meant equally often, so a model that finds shapes
        perfectly and ignores the text is right once in n.
        """
        records = [super(ShapesGroundingDataset, self).get_data_info(i) for i in range(len(self))]
        queries = sum(len(r['queries']) for r in records)
        return sum(len(r['queries']) / len(r['scene']['shapes']) for r in records) / queries
