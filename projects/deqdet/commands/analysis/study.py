"""Train the variants of a study, each with several seeds, and write their tables.

It can be stopped and started again: it keeps finished trainings and continues interrupted ones. With
--no-training it only makes the tables of the finished ones. Tables: study (AP of each variant), intervals
(95 % intervals of AP, and of the difference to the first variant), curve (AP during training), shares (AP
with fewer images) and costs (parameters, multiply-adds, times, memory).
"""

import os
import subprocess
import sys
from math import ceil
from pathlib import Path

from ...analysis import MAIN, show_results
from ...analysis.intervals import interval_rows
from ...analysis.study import curve_rows, outcome_of, read_study, share_rows, summary, with_test
from ...analysis.study.costs import cost_rows, predictions_of, read_measured, steps_of, threads_of
from ...analysis.study.figures import draw_costs, draw_curves, draw_seeds
from ...analysis.study.outcomes import DETECTIONS, TEST, checkpoint_of, data_of, name_of
from ...analysis.study.plan import check_data, check_trainings, jobs_of, outfile_options, settings_of
from ...analysis.study.variants import words_of
from ...errors import UsageError
from ...launching.command_line import Parser, run, within
from ...launching.workers import threads_per_worker
from ...shipped import shipped_folder


def _parse_args():
    parser = Parser(description=__doc__)
    parser.add_argument('study', help='study file, see configs/studies')
    parser.add_argument('--out', type=Path, help='folder for work dirs, tables and figures (default: '
                        './work_dirs/STUDY)')
    parser.add_argument('--workers', type=within(1), default=1, help='workers of each training (default: 1)')
    parser.add_argument('--only', nargs='+', metavar='NAME', help='train only these variants')
    parser.add_argument('--no-training', action='store_true', help='only make the tables')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE',
                        help='settings for all trainings, for example the folder of the data')
    return parser.parse_args()


class _Trainer:
    """Trains and tests in separate processes; their output goes to a file in the work dir."""

    def __init__(self, args, study, out):
        self.args, self.study, self.out = args, study, out
        self.threads = threads_of(out) or threads_per_worker(args.workers)

    def steps(self):
        return steps_of(self.out, self.study.variants, self.args.cfg_options, threads=self.threads)

    def train(self, job):
        settings = self._settings(job)
        self._run(job, 'train', [str(self.args.workers), '--resume', '--work-dir', str(job.work_dir)],
                  split='val', settings=settings)

    def test(self, job):
        checkpoint = checkpoint_of(job.work_dir)
        self._run(job, 'test', [str(checkpoint), '1', '--work-dir', str(job.work_dir / TEST)], split='test')

    def check_epochs(self, job, outcome):
        """Refuse a finished training of another length than the study has now."""
        if self.study.minutes is None:
            return
        settings = self._settings(job)
        if outcome.epochs != settings['train_cfg.max_epochs']:
            raise UsageError(f'{job.work_dir} has a training with max_epochs={outcome.epochs}, but the study '
                             f'now asks for {settings["train_cfg.max_epochs"]}: choose another --out, or add '
                             '--no-training', 'output-exists')

    def _settings(self, job):
        steps = self.steps() if self.study.minutes is not None else {}
        return settings_of(self.study, job, steps, self.args.cfg_options, workers=self.args.workers)

    def _run(self, job, tool, words, *, split, settings=None):
        print(f'{tool} {job}: {job.work_dir}', flush=True)
        job.work_dir.mkdir(parents=True, exist_ok=True)
        options = {'randomness.seed': job.seed,
                   **outfile_options(job.variant, self.args.cfg_options, split,
                                     job.work_dir / DETECTIONS[split])}
        command = ['bash', str(shipped_folder() / f'tools/dist_{tool}.sh'), str(job.variant.config), *words,
                   '--cfg-options', *words_of(options), *job.variant.words, *self.args.cfg_options,
                   *words_of(settings or {})]
        environment = dict(os.environ, PYTHON=sys.executable)
        if self.study.minutes is not None:  # the steps were measured with as many
            environment['OMP_NUM_THREADS'] = str(self.threads)
        with open(job.work_dir / 'output.txt', 'a', encoding='utf-8') as output:
            status = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT,
                                    env=environment).returncode
        if status:
            raise UsageError(f'tools/dist_{tool}.sh for {job} ended with status {status}, see '
                             f'{job.work_dir}/output.txt; run the same command again, it continues',
                             'worker-failed')


def _result(study, job, trainer):
    """The outcome of a job, on the data that the study reports; None if it is not finished."""
    outcome = outcome_of(job.work_dir)
    if outcome is None and trainer is not None:
        trainer.train(job)
        outcome = outcome_of(job.work_dir)
    elif outcome is not None and trainer is not None:
        trainer.check_epochs(job, outcome)
    if outcome is None or study.report == 'val':
        return outcome
    result = with_test(job.work_dir, outcome)
    if result is None and trainer is not None:
        trainer.test(job)
        result = with_test(job.work_dir, outcome)
        if result is None:
            raise UsageError(f'the test of {job} gave no mAP, see {job.work_dir}/output.txt: use an '
                             'evaluator with mAP, such as CocoMetric', 'settings-mismatch')
    return result


def _measured(args, study, trainer, trained):
    """Measured steps of training and predictions: those that are kept, or all that have a checkpoint."""
    if args.no_training:
        return read_measured(trainer.out)
    checkpoints = {variant: checkpoint_of(work_dir) for variant, work_dir in trained.items()
                   if (work_dir / 'last_checkpoint').is_file()}
    predictions = predictions_of(trainer.out, checkpoints, args.cfg_options, split=study.report)
    return trainer.steps(), predictions


def _show(args, study, trainer, outcomes, trained):
    """Write all tables and figures."""
    out, config = trainer.out, study.variants[0].read(args.cfg_options)
    names = {split: name_of(config, split) for split in ('val', 'test')}
    titles = {split: f'Data: {names[split]}, {data_of(config, split)}' for split in names}
    data, title = names[study.report], titles[study.report]
    whole = {variant: [outcome for _, outcome in outcomes[variant, 1]] for variant in study.variants}
    steps = {name: {**step, 'batches': ceil(step['batches'] / args.workers)}
             for name, step in read_measured(out)[0].items()}
    rows = summary(whole, validation=names['val'] if study.report == 'test' else '', steps=steps,
                   minutes=study.minutes)
    if not rows:
        raise UsageError(f'no training of {args.study} is finished in {out}', 'missing-file')
    show_results(out / 'study', rows, draw_seeds(whole, data), title=title)
    intervals = interval_rows({variant.name: {seed: outcome.matched for seed, outcome in outcomes[variant, 1]}
                               for variant in study.variants})
    if intervals:
        show_results(out / 'intervals', intervals, title=title)
    curve = curve_rows(whole)
    if curve:
        show_results(out / 'curve', curve, draw_curves(whole, names['val']), title=titles['val'])
    if len(study.shares) > 1:
        show_results(out / 'shares', share_rows({
            (variant, share): [outcome for _, outcome in outcomes[variant, share]]
            for variant in study.variants for share in study.shares}), title=title)
    steps, predictions = _measured(args, study, trainer, trained)
    if steps or predictions:
        costs = cost_rows(rows, steps, predictions, MAIN)
        show_results(out / 'costs', costs, draw_costs(costs, data), title=title)


def main() -> None:
    args = _parse_args()
    study = read_study(args.study)
    names = [variant.name for variant in study.variants]
    unknown = set(args.only or ()) - set(names)
    if unknown:
        raise UsageError(f'--only {unknown.pop()!r}: the variants of {args.study} are {", ".join(names)}',
                         'bad-argument')
    check_data(study, args.cfg_options)
    if not args.no_training:
        check_trainings(study, args.cfg_options, args.only or names)
    trainer = _Trainer(args, study, args.out or Path('work_dirs') / Path(args.study).stem)
    outcomes = {(variant, share): [] for variant in study.variants for share in study.shares}
    trained = {}
    jobs = jobs_of(study, trainer.out)
    for number, job in enumerate(jobs, start=1):
        active = not args.no_training and (not args.only or job.variant.name in args.only)
        outcome = _result(study, job, trainer if active else None)
        if outcome is not None:
            outcomes[job.variant, job.share].append((job.seed, outcome))
            if job.share == 1:
                trained.setdefault(job.variant, job.work_dir)
            metrics = ', '.join(f'{name} {outcome.metrics[name]:.3f}' for name in MAIN
                                if name in outcome.metrics)
            print(f'[{number}/{len(jobs)}] {job}: {metrics}, {outcome.minutes:.1f} min', flush=True)
    _show(args, study, trainer, outcomes, trained)


if __name__ == '__main__':
    run(main)
