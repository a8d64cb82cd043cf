"""A detection job: one process, several workers, one of several shards, or workers of a shard."""

from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from .inputs import Input
from .journal import NAME, Journal, absorb, journal_name, lock
from .run import Item, Run
from .workers import WHOLE, Part, Workers


class Job:
    """The work in one results folder, and its progress.

    Args:
        out (Path): The folder.
        inputs (Sequence[Input]): All inputs, in order.
        make_run (Callable): Gets the journal; returns the run.
        depends_on (dict): The settings that the results depend on.
        workers (Workers): This process and the others.
        shard (Part): The share of the inputs that these workers process.
    """

    def __init__(self, out: Path, inputs: Sequence[Input], make_run: Callable[[Journal], Run],
                 depends_on: Dict[str, Any], workers: Workers, shard: Part = WHOLE) -> None:
        self._out, self._make_run, self._depends_on = out, make_run, depends_on
        self._order = {each.path: number for number, each in enumerate(inputs)}
        self._workers, self._shard = workers, shard

    def run(self, report: Callable[[Run], int], *, score: Optional[float], restart: bool = False,
            **settings: Any) -> Tuple[List[Part], int]:
        """Do this part of the job. If all shards are done, the first worker reports.

        Args:
            report (Callable): Gets the run with all results; returns an exit status.
            score (float, optional): Draw detections above this score; None draws no pictures.
            restart (bool): Discard earlier results.
            **settings: ``steps``, ``tol``, ``solver``.

        Returns:
            tuple: The unfinished shards, and the exit status, 0 without a report.
        """
        if not self._workers.first:
            self._work(self._workers.share(list), score, settings)
            return [], 0
        with ExitStack() as opened:
            if self._shard != WHOLE:
                # A shard may run beside others, but not beside a process that absorbs their lines.
                lock(opened.enter_context(open(self._out / NAME, 'ab')), self._out, shared=True)
            name = journal_name(self._shard)
            journal = opened.enter_context(closing(self._journal(name, restart=restart)))
            absorb(journal, self._order, restart=restart)
            run = self._make_run(journal)
            mine = self._shard.of(run.items())
            if self._workers.part.count > 1:
                left = run.left(mine, score)
                self._work(self._workers.share(lambda: left), score, settings)
                absorb(journal, self._order)
                run = self._make_run(journal)
            of = '' if self._shard == WHOLE else f'shard {self._shard}'
            run.run(run.left(mine, score), score=score, of=of, **settings)
            shards = [Part(number, self._shard.count) for number in range(1, self._shard.count + 1)]
            missing = [shard for shard in shards if run.left(shard.of(run.items()))]
            return missing, 0 if missing else report(run)

    def _work(self, items: List[Item], score, settings) -> None:
        """Process the share of this worker, with its own journal. The first waits for the others."""
        worker = self._workers.part
        name = journal_name(self._shard, worker)
        with closing(self._journal(name)) as journal:
            self._make_run(journal).run(worker.of(items), score=score,
                                      of=f'worker {worker}' if self._workers.first else None, **settings)
        self._workers.finish()

    def _journal(self, name: str, *, restart: bool = False) -> Journal:
        return Journal(self._out, self._depends_on, restart=restart, name=name, shards=self._shard != WHOLE)
