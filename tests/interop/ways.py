"""The ways from one process to another, each as a context that gives a function to call functions over there."""

import concurrent.futures
import contextlib
import multiprocessing

import dask
import joblib
import torch.multiprocessing
from joblib.externals.loky import get_reusable_executor
from receiving import serve, serve_pipe

__all__ = ["WAYS"]

LONG_S = 120


def answer(found):
    is_good, value = found
    if not is_good:
        raise value
    return value


@contextlib.contextmanager
def queue(context):
    requests, answers = context.Queue(), context.Queue()
    process = context.Process(target=serve, args=(requests, answers))
    process.start()

    def ask(function, *arguments):
        requests.put((function, arguments))
        return answer(answers.get(timeout=LONG_S))

    yield ask
    requests.put(None)
    process.join()
    for each in (requests, answers):
        each.close()
        each.join_thread()


@contextlib.contextmanager
def simple_queue(context):
    requests, answers = context.SimpleQueue(), context.SimpleQueue()
    process = context.Process(target=serve, args=(requests, answers))
    process.start()

    def ask(function, *arguments):
        requests.put((function, arguments))
        return answer(answers.get())

    yield ask
    requests.put(None)
    process.join()
    requests.close()
    answers.close()


@contextlib.contextmanager
def pipe(context):
    here, there = context.Pipe()
    process = context.Process(target=serve_pipe, args=(there,))
    process.start()

    def ask(function, *arguments):
        here.send((function, arguments))
        assert here.poll(LONG_S)
        return answer(here.recv())

    yield ask
    here.send(None)
    process.join()
    here.close()
    there.close()


@contextlib.contextmanager
def pool(context):
    with context.Pool(1) as workers:
        yield lambda function, *arguments: workers.apply_async(function, arguments).get(LONG_S)
        workers.close()
        workers.join()


@contextlib.contextmanager
def pool_map(context):
    with context.Pool(1) as workers:
        yield lambda function, *arguments: workers.starmap(function, [arguments])[0]
        workers.close()
        workers.join()


@contextlib.contextmanager
def manager(context):
    """Through a list that a third process keeps, to be looked at in this one."""
    with context.Manager() as kept:
        held = kept.list()

        def ask(function, *arguments):
            held[:] = [arguments]
            return function(*held[0])

        yield ask


@contextlib.contextmanager
def executor(context):
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as workers:
        yield lambda function, *arguments: workers.submit(function, *arguments).result(LONG_S)


@contextlib.contextmanager
def parallel(backend, **settings):
    with joblib.Parallel(n_jobs=2, backend=backend, **settings) as run:
        yield lambda function, *arguments: run([joblib.delayed(function)(*arguments)])[0]
    if backend == "loky":
        get_reusable_executor().shutdown(wait=True, kill_workers=True)


@contextlib.contextmanager
def dask_processes():
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as workers, dask.config.set(pool=workers):
        yield lambda function, *arguments: dask.delayed(function)(*arguments).compute(scheduler="processes")


def with_methods(way, *methods):
    name = way.__name__.replace("_", " ")
    return {f"{name}, {method}": (way, multiprocessing.get_context(method)) for method in methods}


WAYS = {
    **with_methods(queue, "fork", "spawn", "forkserver"),
    **with_methods(simple_queue, "fork"),
    **with_methods(pipe, "spawn"),
    **with_methods(pool, "fork", "spawn"),
    **with_methods(pool_map, "fork"),
    **with_methods(manager, "fork"),
    **with_methods(executor, "spawn", "fork"),
    "torch's queue, fork": (queue, torch.multiprocessing.get_context("fork")),
    "joblib, loky": (parallel, "loky"),
    "joblib, multiprocessing": (parallel, "multiprocessing"),
    "dask, processes": (dask_processes,),
}
