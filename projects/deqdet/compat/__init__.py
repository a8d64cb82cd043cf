"""The only package that depends on the versions of mmcv, mmengine and mmdet."""
