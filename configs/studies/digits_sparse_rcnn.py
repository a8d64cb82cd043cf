# Sparse R-CNN with six stages against its equilibrium, on the digits, for tools/analysis/study.py.
study = dict(
    seeds=[0],
    variants=[
        dict(
            name=f'{title}, {epochs} epochs',
            config=f'../sparse_rcnn/{name}_digits.py',
            epochs=epochs) for epochs in (8, 16, 24)
        for name, title in (('sparse_rcnn', 'Sparse R-CNN'), ('deq_sparse_rcnn', 'DEQ Sparse R-CNN'))
    ])
