"""The only place that knows versions of mmcv, mmengine and mmdet."""
