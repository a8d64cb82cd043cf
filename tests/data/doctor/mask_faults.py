"""Masks for the clean set, and faults of masks to plant. Each gives the finding of its name."""

import numpy as np
from data.doctor.pets import HEIGHT, WIDTH
from pycocotools import mask as coco_masks


def ellipse(box):
    """The ellipse in a box, has shape (HEIGHT, WIDTH)."""
    x, y, width, height = box
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    return (((columns + 0.5 - x) / width - 0.5)**2 + ((rows + 0.5 - y) / height - 0.5)**2) <= 0.25


def encoded(mask):
    code = coco_masks.encode(np.asfortranarray(mask, dtype=np.uint8))
    return dict(size=code['size'], counts=code['counts'].decode())


def uncompressed(mask):
    pixels = np.asarray(mask, dtype=int).ravel(order='F')
    return dict(size=list(mask.shape), counts=np.diff(
        [0, *np.flatnonzero(np.diff(pixels, prepend=0)), len(pixels)]).tolist())


def polygon(box):
    x, y, width, height = box
    return [[x + width / 2, y, x + width, y + height / 2, x + width / 2, y + height, x, y + height / 2]]


def give_masks(pets, form=lambda box: encoded(ellipse(box))):
    for data in (pets.train, pets.val):
        for annotation in data['annotations']:
            annotation['segmentation'] = form(annotation['bbox'])


def empty_rle(pets):
    pets.box(4)['segmentation'] = encoded(np.zeros((HEIGHT, WIDTH)))


def polygon_on_a_line(pets):
    pets.box(4)['segmentation'] = [[5, 5, 9, 9, 13, 13]]


def two_points(pets):
    pets.box(4)['segmentation'] = [[5, 5, 9, 9]]


def two_points_everywhere(pets):
    for annotation in pets.train['annotations']:
        annotation['segmentation'] = [[5, 5, 9, 9]]


def two_points_to_compare(pets):
    pets.val['annotations'][0]['segmentation'] = [[5, 5, 9, 9]]


def no_point_to_compare(pets):
    pets.val['annotations'][0]['segmentation'] = [[]]


def points_as_pairs_to_compare(pets):
    pets.val['annotations'][0]['segmentation'] = [[5, 5], [9, 9], [7, 3]]


def rows_of_pixels(pets):
    pets.box(4)['segmentation'] = ellipse(pets.box(4)['bbox']).astype(int).tolist()


def rle_in_a_list(pets):
    pets.box(4)['segmentation'] = [pets.box(4)['segmentation']]


def odd_number_of_numbers(pets):
    pets.box(4)['segmentation'] = polygon(pets.box(4)['bbox']) + [[5, 5, 9, 9, 7, 3, 2]]


def text_that_is_cut_off(pets):
    code = pets.box(4)['segmentation']
    code['counts'] = code['counts'][:-3]


def text_of_something_else(pets):
    pets.box(4)['segmentation']['counts'] = 'base64=='


def counts_of_another_image(pets):
    pets.box(4)['segmentation']['counts'] = encoded(np.eye(50))['counts']


def list_of_counts_that_ends_early(pets):
    pets.box(4)['segmentation'] = uncompressed(ellipse(pets.box(4)['bbox']))
    pets.box(4)['segmentation']['counts'].pop()


def numbers_without_a_polygon(pets):
    pets.box(4)['segmentation'] = polygon(pets.box(4)['bbox'])[0]


def texts_for_numbers(pets):
    pets.box(4)['segmentation'] = [['5px', '5px', '9px', '9px', '7px', '3px']]


def width_before_height(pets):
    for annotation in pets.train['annotations']:
        annotation['segmentation']['size'] = [WIDTH, HEIGHT]


def polygon_elsewhere(pets):
    x, y, width, height = pets.box(4)['bbox']
    pets.box(4)['segmentation'] = polygon([x + WIDTH, y, width, height])


def polygon_that_reaches_beyond(pets):
    # The box reaches as far, so that the two fit.
    pets.box(4)['bbox'] = [WIDTH - 20, 3, 30, 9]
    pets.box(4)['segmentation'] = polygon(pets.box(4)['bbox'])


def mask_of_another_object(pets):
    pets.box(4)['bbox'] = [2, 2, 20, 20]
    pets.box(4)['segmentation'] = encoded(ellipse([30, 30, 20, 20]))


def polygon_for_another_image_size(pets):
    for annotation in pets.train['annotations']:
        annotation['segmentation'] = [[2 * value for value in polygon(annotation['bbox'])[0]]]


def one_without_a_mask(pets):
    del pets.box(4)['segmentation']


def one_with_an_empty_list(pets):
    pets.box(4)['segmentation'] = []


def a_crowd_without_a_mask(pets):
    del pets.train['annotations'][-1]['segmentation']
    assert pets.train['annotations'][-1]['iscrowd']


def none_has_a_mask(pets):
    for annotation in pets.train['annotations']:
        del annotation['segmentation']


def none_has_a_mask_to_compare(pets):
    for annotation in pets.val['annotations']:
        annotation['segmentation'] = []


def rle_where_only_polygons_are_read(pets):
    pets.cfg.train_dataloader.dataset.pipeline[1].poly2mask = False


def one_rle_where_only_polygons_are_read(pets):
    give_masks(pets, polygon)
    pets.box(4)['segmentation'] = encoded(ellipse(pets.box(4)['bbox']))
    pets.cfg.train_dataloader.dataset.pipeline[1].poly2mask = False


#: The function that plants it, name and grade of the finding, and words of its line.
FAULTS = [
    (empty_rle, 'mask-empty', 'warning', '1 masks have no pixel (annotation 19 of image 13, 2.png)'),
    (polygon_on_a_line, 'mask-empty', 'warning', 'annotation 19'),
    (two_points, 'mask-points', 'warning', 'annotation 19'),
    (two_points_everywhere, 'mask-points', 'error', 'so that no object is left'),
    (two_points_to_compare, 'mask-points', 'error', 'the evaluation of masks fails'),
    (no_point_to_compare, 'mask-points', 'error', '1 masks begin with a polygon of fewer than three points'),
    (points_as_pairs_to_compare, 'mask-points', 'error', 'the evaluation of masks fails'),
    (rows_of_pixels, 'mask-broken', 'error', 'it is a bitmap, rows of 0 and 1'),
    (rle_in_a_list, 'mask-broken', 'error', 'it is a list of other things, not of polygons'),
    (odd_number_of_numbers, 'mask-points', 'warning', 'odd number of numbers'),
    (text_that_is_cut_off, 'mask-broken', 'error', 'annotation 19 of image 13, 2.png: counts'),
    (text_of_something_else, 'mask-broken', 'error', 'counts are not a compressed RLE'),
    (counts_of_another_image, 'mask-broken', 'error', 'counts add up to 2500 instead of 60 * 80 pixels'),
    (list_of_counts_that_ends_early, 'mask-broken', 'error', 'instead of 60 * 80 pixels'),
    (numbers_without_a_polygon, 'mask-broken', 'error', 'not of polygons [[x1, y1, ...]]'),
    (texts_for_numbers, 'mask-broken', 'error', 'a polygon is not a list of numbers'),
    (width_before_height, 'mask-size', 'error', '60 x 80 instead of 80 x 60'),
    (polygon_elsewhere, 'mask-outside', 'warning', 'annotation 19'),
    (polygon_that_reaches_beyond, 'mask-beyond', 'warning', '1 masks are outside their image by more than 2'),
    (mask_of_another_object, 'mask-box', 'warning', 'annotation 19'),
    (polygon_for_another_image_size, 'box-outline', 'warning', 'polygons are for another image size'),
    (one_without_a_mask, 'no-masks', 'error', "1 of 33 annotations have no 'segmentation' (annotation 19"),
    (one_with_an_empty_list, 'no-masks', 'error', 'with_mask=True'),
    (a_crowd_without_a_mask, 'no-masks', 'error', '1 of 33 annotations'),
    (none_has_a_mask, 'no-masks', 'error', "none of 33 annotations has a 'segmentation'"),
    (none_has_a_mask_to_compare, 'no-masks', 'error', "the metric 'segm' compares masks"),
    (rle_where_only_polygons_are_read, 'mask-form', 'error', '32 of 32 masks'),
    (one_rle_where_only_polygons_are_read, 'mask-form', 'warning', '1 of 32 masks')]
#: Other findings that the same fault has.
ALSO = dict(
    points_as_pairs_to_compare={'box-outline'}, rows_of_pixels={'box-outline'},
    polygon_on_a_line={'box-outline'}, polygon_elsewhere={'mask-beyond', 'box-outline'},
    polygon_that_reaches_beyond={'box-beyond'},
    polygon_for_another_image_size={'mask-beyond', 'mask-outside'})
