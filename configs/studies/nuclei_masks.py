# The equilibrium and the stacked decoder on cell nuclei with masks, for tools/analysis/study.py. Their
# training steps take the same time.
study = dict(
    seeds=[0, 1, 2],
    variants=[
        dict(name='DEQDet', config='../deqdet/deqdet_nuclei_mask-local.py'),
        dict(name='stacked', config='../deqdet/ffndet_nuclei_mask-local.py'),
    ])
