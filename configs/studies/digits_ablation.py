# Ablations of DEQDet on the digits, for tools/analysis/study.py.
deqdet = '../deqdet/deqdet_digits.py'
stacked = '../deqdet/ffndet_digits.py'
study = dict(
    seeds=[0, 1, 2],
    # The name of each tells how it differs from the first. Prediction always has 8 + 1 refinements. An epoch
    # of the stacked decoder takes as long as one of DEQDet.
    variants=[
        dict(name='DEQDet', config=deqdet),
        dict(name='stacked', config=stacked),
        dict(name='rag = 1', config=deqdet, options={'model.roi_head.rag': 1}),
        dict(name='rag = 3', config=deqdet, options={'model.roi_head.rag': 3}),
        dict(
            name='no RAP',
            config=deqdet,
            options={
                'model.roi_head.perturb_content_prob': 0,
                'model.roi_head.perturb_position_prob': 0
            }),
        dict(
            name='Omega = {8}', config=deqdet, options={'model.roi_head.supervision_position': [8]}),
        dict(
            name='T = 4, Omega = {1, 3, 4}',
            config=deqdet,
            options={
                'model.roi_head.refinement_steps': 4,
                'model.roi_head.supervision_position': [1, 3, 4],
                'model.test_cfg.rcnn.refinement_steps': 8
            }),
        dict(
            name='T = 16, Omega = {1, 3, 8, 16}',
            config=deqdet,
            options={
                'model.roi_head.refinement_steps': 16,
                'model.roi_head.supervision_position': [1, 3, 8, 16],
                'model.test_cfg.rcnn.refinement_steps': 8
            }),
        dict(
            name='path in bfloat16', config=deqdet, options={'model.roi_head.solve_dtype': 'bfloat16'}),
    ])
