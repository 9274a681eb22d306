"""Fresh random state in forked targets, except where an import seeded it deliberately.

A fresh process starts every unseeded generator from entropy of the operating system, and a forked
one inherits the state of its parent. `RandomStates` watches the imports of the preloader and learns
which generators they left unseeded; in a forked target, `renew` gives those a new state. Generators
that an import seeded have the same state in every target, as they have in fresh processes. Drawing
numbers is not seeding, and a state that is saved, replaced and restored was never seeded.

How a generator is recognised as unseeded:

- `random.Random`: calls of `seed`, `getstate` and `setstate` are recorded.
- NumPy: its entropy comes from `random.SystemRandom`, where it is recorded. A generator is unseeded
  if its next numbers are among those that such an entropy leads to.
- PyTorch: its generators know their seeds. The first seed of the default generator is noted when
  PyTorch appears among the modules.

A seed that an import computes from the time or from another generator counts as deliberate.
"""

from __future__ import annotations

import _random
import functools
import gc
import itertools
import os
import random
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self

#: How many numbers an import may draw from a generator that still counts as unseeded.
MAX_DRAWS = 2**22
#: A generator's next numbers are recognised by this many of them, as bytes.
FINGERPRINT_BYTES = 32
#: Numbers in the state of the Mersenne Twister, which it computes together.
MT19937_WORDS = 624
#: Seeds of PyTorch below this were chosen. `Generator.seed` draws 64 bits, almost always more.
LARGE_TORCH_SEED = 2**53


class RandomStates:
    """Context around the imports of the preloader; a forked target then calls `renew`.

    What was seeded before the context counts as unseeded. Nothing that the context replaces is
    left replaced after it.
    """

    def __init__(self) -> None:
        self._parts = (_PythonRandom(), _NumpyRandom(), _TorchRandom())

    def __enter__(self) -> Self:
        for part in self._parts:
            part.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for part in self._parts:
            part.stop()
        if error is None:
            for part in self._parts:
                part.sort_out()

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why targets should not be forked: generators that may be seeded or not, a sentence each.

        Empty, except in rare cases in which any state in the targets could be wrong.
        """
        return tuple(doubt for part in self._parts for doubt in part.doubts)

    def renew(self) -> None:
        """Give unseeded generators a new state. Call this in a forked target, after the context."""
        for part in self._parts:
            part.renew()


class _PythonRandom:
    """The generators of `random`. Python itself seeds the global one anew in a forked child."""

    doubts: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._global: random.Random = random._inst  # noqa: SLF001
        self._unseeded: dict[int, weakref.ref[random.Random]] = {}
        self._unseeded_states: set[int] = set()
        self._replaced: dict[str, Any] = {}
        self._seeded_state: tuple[Any, ...] | None = None
        self._generators: list[random.Random] = []

    def start(self) -> None:
        self._mark(self._global, is_unseeded=True)
        for name, watched in self._watched_methods().items():
            self._replaced[name] = getattr(random.Random, name)
            setattr(random.Random, name, watched)
        # `random.seed` and the like are methods that were bound before. They call those of the
        # next class of their object, so that class comes to be the one that records.
        self._global.__class__ = self._watched_class()

    def stop(self) -> None:
        self._global.__class__ = random.Random
        for name, method in self._replaced.items():
            setattr(random.Random, name, method)

    def sort_out(self) -> None:
        if not self._is_unseeded(self._global):
            self._seeded_state = random.getstate()
        generators = (reference() for reference in self._unseeded.values())
        self._generators = [g for g in generators if g is not None and g is not self._global]

    def renew(self) -> None:
        if self._seeded_state is not None:
            random.setstate(self._seeded_state)
        for generator in self._generators:
            random.Random.seed(generator)

    def _watched_methods(self) -> dict[str, Callable[..., Any]]:
        seed, getstate, setstate = (
            getattr(random.Random, name) for name in ("seed", "getstate", "setstate")
        )

        def watched_seed(generator: random.Random, a: Any = None, version: int = 2) -> None:
            seed(generator, a, version)
            self._mark(generator, is_unseeded=a is None)

        def watched_getstate(generator: random.Random) -> Any:
            self._note_state(generator)
            return getstate(generator)

        def watched_setstate(generator: random.Random, state: Any) -> None:
            setstate(generator, state)
            self._mark_by_state(generator)

        return {"seed": watched_seed, "getstate": watched_getstate, "setstate": watched_setstate}

    def _watched_class(self) -> type[random.Random]:
        recorder = self

        class Recording(_random.Random):
            __slots__ = ()

            def seed(self, a: Any = None, /) -> None:
                super().seed(a)
                recorder._mark(self, is_unseeded=a is None)

            def getstate(self) -> Any:
                recorder._note_state(self)
                return super().getstate()

            def setstate(self, state: Any, /) -> None:
                super().setstate(state)
                recorder._mark_by_state(self)

        class Watched(random.Random, Recording):
            __slots__ = ()

        return Watched

    def _mark(self, generator: Any, *, is_unseeded: bool) -> None:
        # By id, because a subclass may not be hashable.
        if is_unseeded:
            self._unseeded[id(generator)] = weakref.ref(generator)
        else:
            self._unseeded.pop(id(generator), None)

    def _is_unseeded(self, generator: Any) -> bool:
        reference = self._unseeded.get(id(generator))
        return reference is not None and reference() is generator

    def _note_state(self, generator: Any) -> None:
        if self._is_unseeded(generator):
            self._unseeded_states.add(hash(_random.Random.getstate(generator)))

    def _mark_by_state(self, generator: Any) -> None:
        state = hash(_random.Random.getstate(generator))
        self._mark(generator, is_unseeded=state in self._unseeded_states)


class _NumpyRandom:
    """Bit generators and seed sequences of NumPy; the legacy functions share one of them."""

    def __init__(self) -> None:
        self.doubts: tuple[str, ...] = ()
        #: The entropies that were drawn, each with its length in bytes.
        self._entropies: dict[int, int] = {}
        self._urandom: Callable[[int], bytes] = os.urandom
        self._sequences: list[tuple[Any, int]] = []
        self._generators: list[Any] = []
        self._legacy: list[Callable[[tuple[Any, ...]], None]] = []

    def start(self) -> None:
        self._urandom = random._urandom  # type: ignore[attr-defined] # noqa: SLF001

        def recorded(size: int) -> bytes:
            drawn = self._urandom(size)
            self._entropies[int.from_bytes(drawn)] = size
            return drawn

        # What `random.SystemRandom`, and with it `secrets.randbits`, calls. No other module has it.
        random._urandom = recorded  # type: ignore[attr-defined] # noqa: SLF001
        if _is_complete("numpy.random"):
            sys.modules["numpy.random"].seed()

    def stop(self) -> None:
        random._urandom = self._urandom  # type: ignore[attr-defined] # noqa: SLF001

    def sort_out(self) -> None:
        if not _is_complete("numpy.random"):
            self._entropies = {}
            return
        library = sys.modules["numpy.random"]
        objects = gc.get_objects()
        # The legacy functions never spawn from theirs, and it is most of the time of a renewal.
        unused = _sequence(library.mtrand._rand._bit_generator)  # noqa: SLF001
        self._sequences = [
            (sequence, sequence.entropy)
            for sequence in _instances(objects, library.SeedSequence)
            if self._is_recorded(sequence) and sequence is not unused
        ]
        states = _instances(objects, library.RandomState)
        for generator in self._unseeded(_instances(objects, library.BitGenerator), library):
            self._plan_renewal(generator, states, library)
        used = {entropy for _, entropy in self._sequences}
        self._entropies = {e: size for e, size in self._entropies.items() if e in used}

    def renew(self) -> None:
        fresh = {e: int.from_bytes(os.urandom(size)) for e, size in self._entropies.items()}
        for sequence, entropy in self._sequences:
            # In place, as generators and users refer to it.
            sequence.__init__(
                fresh[entropy],
                spawn_key=sequence.spawn_key,
                pool_size=sequence.pool_size,
                n_children_spawned=sequence.n_children_spawned,
            )
        for generator in self._generators:
            generator.state = _start(generator).state
        for set_state in self._legacy:
            # `seed(None)` and arrays use so much code that its pages cost most of the time here.
            key = memoryview(os.urandom(4 * MT19937_WORDS)).cast("I")
            set_state(("MT19937", key, MT19937_WORDS, 0, 0.0))

    def _is_recorded(self, sequence: Any) -> bool:
        entropy = getattr(sequence, "entropy", None)
        return isinstance(entropy, int) and entropy in self._entropies

    def _unseeded(self, generators: Iterable[Any], library: Any) -> Iterator[Any]:
        """Yield the unseeded generators, and note doubts."""
        starts = [library.MT19937(library.SeedSequence(entropy)) for entropy in self._entropies]
        draws = MAX_DRAWS // max(1, len(starts))
        for generator in generators:
            is_recorded = self._is_recorded(_sequence(generator))
            is_twister = isinstance(generator, library.MT19937)
            # Legacy seeding forgets the sequence, whether it seeds from entropy or a number.
            is_forgotten = is_twister and _sequence(generator) is None
            is_number = is_twister and _is_seeded_by_number(generator, library)
            if is_number or not (is_recorded or is_forgotten):
                continue
            own = [_start(generator)] if is_recorded else []
            others = starts if is_twister else []
            if _is_ahead(generator, own, MAX_DRAWS) or _is_ahead(generator, others, draws):
                yield generator
            elif is_recorded:
                kind = type(generator).__name__
                doubt = f"an import set the state of a NumPy {kind}, or drew very many numbers"
                self.doubts += (doubt,)

    def _plan_renewal(self, generator: Any, states: list[Any], library: Any) -> None:
        if not isinstance(generator, library.MT19937):
            self._generators.append(generator)
            return
        # A RandomState has more than its bit generator: the other half of a pair of normals.
        owners = [s for s in states if s._bit_generator is generator]  # noqa: SLF001
        setters = [owner.set_state for owner in owners]
        self._legacy += setters or [functools.partial(setattr, generator, "state")]


class _TorchRandom:
    """The default generator of PyTorch for the CPU; those of CUDA are seeded on their first use.

    While modules are imported, this is a finder on `sys.meta_path` that never finds anything.
    PyTorch imports many modules after that of the default generator, before anyone can use it.
    """

    def __init__(self) -> None:
        self.doubts: tuple[str, ...] = ()
        self._first_seed: int | None = None
        self._is_unseeded = False

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if self._first_seed is None and (default := _torch_default()) is not None:
            self._first_seed = default.initial_seed()

    def start(self) -> None:
        sys.meta_path.insert(0, self)
        self.find_spec("")

    def stop(self) -> None:
        sys.meta_path.remove(self)

    def sort_out(self) -> None:
        default = _torch_default()
        if default is None:
            return
        self._is_unseeded = default.initial_seed() == self._first_seed
        # The collector does not track generators, but what refers to them.
        generators = _instances(gc.get_referents(*gc.get_objects()), type(default))
        seeds = {g.initial_seed() for g in generators} - {self._first_seed}
        self.doubts = tuple(
            f"an import seeded a PyTorch generator with {seed}, which may be random or deliberate"
            for seed in sorted(seeds)
            if seed >= LARGE_TORCH_SEED
        )

    def renew(self) -> None:
        if self._is_unseeded:
            _torch_default().seed()


def _torch_default() -> Any:
    """Return PyTorch's default generator, or None if PyTorch is not imported."""
    return getattr(sys.modules.get("torch._C"), "default_generator", None)


def _is_complete(name: str) -> bool:
    """Return whether a module is imported; not if its import failed or has not ended."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return spec is not None and not getattr(spec, "_initializing", False)


def _instances(objects: list[object], base: type) -> list[Any]:
    """Return the objects of a class and its subclasses, each once.

    By their types, because `isinstance` runs code of proxies.
    """
    classes = {kind for kind in set(map(type, objects)) if issubclass(kind, base)}
    selected = itertools.compress(objects, map(classes.__contains__, map(type, objects)))
    return list({id(value): value for value in selected}.values())


def _sequence(generator: Any) -> Any:
    """Return the seed sequence of a bit generator, which was not public before NumPy 1.25."""
    return getattr(generator, "seed_seq", None) or getattr(generator, "_seed_seq", None)


def _start(generator: Any) -> Any:
    """Return a new bit generator from the seed sequence of another one."""
    return type(generator)(_sequence(generator))


def _is_seeded_by_number(generator: Any, library: Any) -> bool:
    """Return whether `np.random.seed(NUMBER)` was the last call; a shortcut for the usual case."""
    key = generator.state["state"]["key"]
    same = library.RandomState(int(key[0]))._bit_generator  # noqa: SLF001
    return bool((same.state["state"]["key"] == key).all())


def _is_ahead(generator: Any, starts: list[Any], draws: int) -> bool:
    """Return whether drawing at most `draws` numbers from one of the starts leads to a generator.

    None of them is changed.
    """
    copy = type(generator)(0)
    copy.state = generator.state
    # Legacy seeding keeps the position in the block of numbers, so the rest of it may differ.
    copy.random_raw(MT19937_WORDS, output=False)
    fingerprint = copy.random_raw(FINGERPRINT_BYTES // 8).tobytes()
    return any(
        fingerprint in chunk
        for most in (2**12, draws)
        for start in starts
        for chunk in _stream(start, most)
    )


def _stream(generator: Any, draws: int) -> Iterator[bytes]:
    """Yield the next numbers of a copy of a generator in overlapping chunks."""
    copy = type(generator)(0)
    copy.state = generator.state
    tail = b""
    for drawn in range(0, draws, 2**18):
        chunk = tail + copy.random_raw(min(2**18, draws - drawn)).tobytes()
        yield chunk
        tail = chunk[-FINGERPRINT_BYTES:]
