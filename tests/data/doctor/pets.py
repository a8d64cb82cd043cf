"""A clean but realistic data set in COCO's format: ids with gaps, a crowd, an image without objects."""

import json
from pathlib import Path

import numpy as np
from data.tiny_coco import write_config
from mmengine.config import Config
from PIL import Image

CLASSES = ('cat', 'dog', 'cow')
WIDTH, HEIGHT = 80, 60
#: First image id of each split, and number of images.
SPLITS = dict(train=(7, 12), val=(301, 8))


def write_pets(root: Path) -> Path:
    """Images, half of them PNG and half JPEG, and the annotation files of both splits."""
    rng = np.random.default_rng(0)
    for split, (first, count) in SPLITS.items():
        (root / split).mkdir(parents=True)
        images, annotations = [], []
        for number in range(count):
            name = f'{number}.{"jpg" if number % 2 else "png"}'
            picture = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            Image.fromarray(picture).save(root / split / name)
            images.append(dict(id=first + 3 * number, file_name=name, width=WIDTH, height=HEIGHT))
            for _ in range(3 if number else 0):
                width, height = rng.integers(8, 25, 2).tolist()
                x, y = int(rng.integers(0, WIDTH - width + 1)), int(rng.integers(0, HEIGHT - height + 1))
                annotations.append(dict(
                    id=11 + 2 * len(annotations), image_id=first + 3 * number, bbox=[x, y, width, height],
                    area=width * height, iscrowd=0, category_id=(3, 5, 90)[len(annotations) % 3]))
        annotations[-1]['iscrowd'] = 1
        categories = [dict(id=number, name=name) for number, name in zip((3, 5, 90), CLASSES)]
        (root / f'{split}.json').write_text(json.dumps(
            dict(images=images, annotations=annotations, categories=categories)))
    return root


class Pets:
    """The set in ``root``, its annotations ``train`` and ``val``, and a config, for planting faults."""

    def __init__(self, root):
        self.root = root
        self.train, self.val = (json.loads((root / f'{split}.json').read_text()) for split in SPLITS)
        self.cfg = Config.fromfile(write_config(root / 'config.py', root, classes=CLASSES))
        for split, name in (('train', 'train'), ('val', 'val'), ('test', 'val')):
            self.cfg[f'{split}_dataloader'].dataset.update(
                ann_file=f'{name}.json', data_prefix=dict(img=f'{name}/'))
        self.cfg.train_dataloader.dataset.filter_cfg = dict(filter_empty_gt=False)
        self.cfg.val_evaluator.ann_file = self.cfg.test_evaluator.ann_file = str(root / 'val.json')

    def box(self, number):
        """An annotation of the training set that is not a crowd."""
        return self.train['annotations'][number]

    def image(self, number, split='train'):
        """Path of an image."""
        return self.root / split / getattr(self, split)['images'][number]['file_name']

    def write(self):
        """Write the annotation files (if they are not deleted) and the config."""
        for split in SPLITS:
            path = self.root / f'{split}.json'
            content = getattr(self, split)
            if content is None:
                path.unlink()
            else:
                path.write_text(content if isinstance(content, str) else json.dumps(content))
        self.cfg.dump(str(self.root / 'config.py'))
