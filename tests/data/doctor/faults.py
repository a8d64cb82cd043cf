"""Faults to plant in the clean set. Each gives the finding of its name, and no other error."""

import shutil

import cv2
import numpy as np
from data.doctor.pets import HEIGHT, WIDTH
from PIL import Image


def missing_image(pets):
    pets.image(4).unlink()


def garbage_for_an_image(pets):
    pets.image(4).write_bytes(b'<html>not found</html>')


def truncated_jpeg(pets):
    path = pets.image(3)
    assert path.suffix == '.jpg'
    path.write_bytes(path.read_bytes()[:-700])


def truncated_png(pets):
    path = pets.image(2, 'val')
    assert path.suffix == '.png'
    path.write_bytes(path.read_bytes()[:-2000])


def another_case_of_a_name(pets):
    pets.cfg.train_dataloader.dataset.metainfo = dict(classes=('cat', 'Dog', 'cow'))


def one_class_without_its_comma(pets):
    pets.cfg.train_dataloader.dataset.metainfo = dict(classes=('cat'))


def classes_in_another_order(pets):
    for split in ('train', 'val', 'test'):
        pets.cfg[f'{split}_dataloader'].dataset.metainfo = dict(classes=('dog', 'cat', 'cow'))


def files_in_another_order(pets):
    pets.val['categories'].reverse()


def image_id_twice(pets):
    # The image without objects: the boxes of another one would also lose their image.
    pets.train['images'][0]['id'] = pets.train['images'][4]['id']


def annotation_id_twice(pets):
    pets.box(5)['id'] = pets.box(4)['id']


def category_id_twice(pets):
    pets.train['categories'].append(dict(id=5, name='sheep'))


def annotation_without_id(pets):
    del pets.box(4)['id']


def image_that_is_not_listed(pets):
    pets.box(4)['image_id'] = 5000


def category_that_is_not_listed(pets):
    pets.box(4)['category_id'] = 1


def box_without_width(pets):
    pets.box(4)['bbox'][2] = 0


def negative_height(pets):
    pets.box(4)['bbox'][3] = -20


def box_elsewhere(pets):
    pets.box(4)['bbox'] = [WIDTH + 5, 3, 9, 9]


def box_that_reaches_beyond(pets):
    pets.box(4)['bbox'] = [WIDTH - 20, 3, 30, 9]


def corners_for_sizes(pets):
    for annotation in pets.train['annotations']:
        x, y, width, height = annotation['bbox']
        annotation['bbox'] = [x, y, x + width, y + height]


def turned_by_an_attribute(pets):
    for number in range(5):
        pets.box(number)['attributes'] = dict(occluded=False, rotation=90.0)


def images_without_a_size(pets):
    for image in pets.train['images']:
        image.update(width=0, height=0)


def shares_of_the_image(pets):
    for annotation in pets.train['annotations']:
        x, y, width, height = annotation['bbox']
        annotation['bbox'] = [x / WIDTH, y / HEIGHT, width / WIDTH, height / HEIGHT]


def file_listed_twice(pets):
    pets.train['images'].append(dict(pets.train['images'][3], id=999))


def file_listed_twice_in_another_form(pets):
    pets.train['images'].append(dict(pets.train['images'][3], id=999, file_name='.//3.jpg'))


def annotation_listed_twice(pets):
    pets.train['annotations'].append(dict(pets.box(4), id=999))


def copy_under_another_name(pets):
    shutil.copy(pets.image(2), pets.image(4))


def training_image_in_validation(pets):
    shutil.copy(pets.image(2), pets.image(4, 'val'))


def width_and_height_exchanged(pets):
    record = pets.train['images'][4]
    record.update(width=HEIGHT, height=WIDTH)
    for annotation in pets.train['annotations']:
        if annotation['image_id'] == record['id']:
            annotation['bbox'][:2] = [2, 2]


def turned_by_exif(pets):
    path = pets.image(5)
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(path) as picture:
        picture.save(path, exif=exif)


def ten_bits_of_sixteen(pets, low=0, high=1023, form='.png'):
    for number in range(len(pets.train['images'])):
        path = pets.image(number)
        values = np.random.default_rng(number).integers(low, high + 1, (HEIGHT, WIDTH), dtype=np.uint16)
        values[0, :2] = low, high
        path.write_bytes(cv2.imencode(form, values)[1].tobytes())


def ten_bits_in_pgm(pets):
    ten_bits_of_sixteen(pets, form='.pgm')


def temperatures_with_an_offset(pets):
    ten_bits_of_sixteen(pets, 21000, 23000)


def floats_in_a_file(pets):
    values = np.random.default_rng(0).random((HEIGHT, WIDTH), dtype=np.float32)
    pets.image(4).write_bytes(cv2.imencode('.tif', values)[1].tobytes())


def black_image(pets):
    Image.new('RGB', (WIDTH, HEIGHT)).save(pets.image(4))


def no_area(pets):
    del pets.box(4)['area']


def area_of_zero(pets):
    pets.box(4)['area'] = 0


def no_iscrowd(pets):
    del pets.val['annotations'][4]['iscrowd']


def ids_of_images_as_texts(pets):
    for image in pets.val['images']:
        image['id'] = str(image['id'])


def crowds_alone_to_evaluate(pets):
    for annotation in pets.val['annotations']:
        annotation['iscrowd'] = 1


def another_file_for_the_evaluator(pets):
    pets.cfg.val_evaluator.ann_file = str(pets.root / 'train.json')


def images_that_are_tested_twice(pets):
    for split in ('val', 'test'):
        loader = pets.cfg[f'{split}_dataloader']
        loader.dataset = dict(type='RepeatDataset', times=2, dataset=loader.dataset)


def annotation_with_id_zero(pets):
    pets.val['annotations'][4]['id'] = 0


def more_objects_than_queries(pets):
    pets.cfg.model.rpn_head = dict(num_proposals=2)


def class_without_objects(pets):
    pets.train['annotations'] = [each for each in pets.train['annotations'] if each['category_id'] != 90]


def all_ignored(pets):
    for annotation in pets.train['annotations']:
        annotation['ignore'] = 1


def no_annotation_file(pets):
    pets.val = None


def no_json(pets):
    pets.train = 'version https://git-lfs.github.com/spec/v1'


def another_head(pets):
    pets.cfg.model.bbox_head.num_classes = 80


def pipeline_that_fails(pets):
    # It needs the results of other images, which only MultiImageMixDataset provides.
    pets.cfg.train_dataloader.dataset.pipeline.insert(2, dict(type='CopyPaste'))


#: The function that plants it, name and grade of the finding, and a word of its line.
FAULTS = [
    (missing_image, 'missing-images', 'error', '4.png'),
    (garbage_for_an_image, 'unreadable-images', 'error', 'no image'),
    (truncated_jpeg, 'unreadable-images', 'error', 'truncated'),
    (truncated_png, 'unreadable-images', 'error', 'val/2.png'),
    (another_case_of_a_name, 'class-names', 'error', "'Dog' may be 'dog'"),
    (one_class_without_its_comma, 'class-names', 'error', 'with the comma'),
    (classes_in_another_order, 'class-order', 'warning', "label 0 is 'cat'"),
    (files_in_another_order, 'label-order', 'error', "label 0 is 'cow' here and 'cat'"),
    (image_id_twice, 'image-ids', 'error', '1 image ids occur more than once (19)'),
    (annotation_id_twice, 'annotation-ids', 'error', '1 annotation ids occur more than once (19)'),
    (category_id_twice, 'category-ids', 'error', '1 category ids occur more than once (5)'),
    (annotation_without_id, 'annotation-ids', 'error', '1 annotations have no id'),
    (image_that_is_not_listed, 'image-reference', 'warning', 'annotation 19'),
    (category_that_is_not_listed, 'category-reference', 'warning', 'annotation 19'),
    (box_without_width, 'degenerate-box', 'warning', 'annotation 19 of image 13, 2.png'),
    (negative_height, 'degenerate-box', 'warning', 'annotation 19'),
    (box_elsewhere, 'box-outside', 'warning', 'annotation 19'),
    (box_that_reaches_beyond, 'box-beyond', 'warning', 'annotation 19'),
    (corners_for_sizes, 'xyxy', 'error', 'width = x2 - x1'),
    (turned_by_an_attribute, 'rotated-boxes', 'warning', '5 of 33 boxes'),
    (images_without_a_size, 'image-without-size', 'error', '12 of 12 images'),
    (shares_of_the_image, 'relative-boxes', 'error', '33 of 33 boxes'),
    (file_listed_twice, 'image-twice', 'warning', '3.jpg'),
    (file_listed_twice_in_another_form, 'image-twice', 'warning', '(3.jpg)'),
    (annotation_listed_twice, 'annotation-twice', 'warning', 'annotation 999'),
    (copy_under_another_name, 'same-images', 'warning', '2.png = '),
    (training_image_in_validation, 'leakage', 'error', '1 of 8 images (12.5 %)'),
    (width_and_height_exchanged, 'image-size', 'error', 'width and height exchanged'),
    (turned_by_exif, 'image-size', 'error', 'EXIF orientation'),
    (ten_bits_of_sixteen, 'unused-bits', 'warning', 'values that use the lowest 10 of 16 bits'),
    (ten_bits_in_pgm, 'unused-bits', 'warning', 'set value_range=(0, 1023)'),
    (temperatures_with_an_offset, 'unused-bits', 'warning', 'set value_range=(21000, 23000)'),
    (floats_in_a_file, 'unreadable-images', 'error', 'set value_range=(0, 1) of LoadImageFromFile'),
    (black_image, 'flat-images', 'warning', '1 of 12 images'),
    (no_area, 'no-area', 'error', 'annotation 19'),
    (area_of_zero, 'area', 'warning', 'annotation 19'),
    (no_iscrowd, 'no-iscrowd', 'error', 'iscrowd=0'),
    (another_file_for_the_evaluator, 'evaluator-images', 'error', '8 image ids'),
    (ids_of_images_as_texts, 'no-objects', 'error', "an image has the id '301'"),
    (crowds_alone_to_evaluate, 'no-objects', 'error', 'iscrowd=1; AP would be -1'),
    (images_that_are_tested_twice, 'tested-twice', 'error', '8 of 16 image ids'),
    (annotation_with_id_zero, 'annotation-id-zero', 'warning', 'from 1'),
    (more_objects_than_queries, 'more-objects-than-queries', 'warning', '2 queries of the model, up to 3'),
    (class_without_objects, 'class-without-objects', 'warning', '(cow)'),
    (all_ignored, 'no-objects', 'error', '33 annotations'),
    (no_annotation_file, 'missing-files', 'error', '.json'),
    (no_json, 'format', 'error', 'is not a JSON file'),
    (another_head, 'num-classes', 'error', 'num_classes is 80'),
    (pipeline_that_fails, 'pipeline', 'error', 'step CopyPaste fails on sample'),
]
#: Faults with two findings: val has other classes than train, and than its own metainfo.
ALSO = dict(files_in_another_order={'class-order'}, ids_of_images_as_texts={'image-reference'})
