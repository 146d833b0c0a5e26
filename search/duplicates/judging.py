"""What becomes of photos that lie in one star: which is kept, what is settled, why."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from imgrec.search.duplicates.groups import EXACT, NEAR, Copy, Group
from imgrec.search.duplicates.keeping import Choice, Rule, choose
from imgrec.storage.library import Library
from imgrec.storage.registry.duplicates import DIFFERENT, CopyFacts, Settled, read_facts
from imgrec.storage.registry.registry import Registry

# Of pairs of images, the score of each, and whether it is near.
Scoring = Callable[[Sequence[tuple[int, int]]], list[tuple[float, bool]]]
# The same by content, of the photo that is kept and the others.
Scored = Mapping[bytes, tuple[float, bool]]


class Judge:
    """Makes groups of photos that belong together, and says of each photo whether it is kept."""

    def __init__(
        self,
        library: Library,
        registry: Registry,
        rules: Sequence[Rule],
        settled: Sequence[Settled],
    ) -> None:
        self._root = f"{library.images_root.rstrip('/')}/"
        self._registry, self._rules = registry, rules
        self._settled = {group.number: group for group in settled}
        self._decided: dict[bytes, set[int]] = {}
        for group in settled:
            for content in group.contents:
                self._decided.setdefault(content, set()).add(group.number)

    def groups(self, together: Sequence[Sequence[int]], score: Scoring, with_settled: bool) -> Iterator[Group]:
        """Make a group of each list of ids, where it has two photos that are there, and is not settled."""
        facts = read_facts(self._registry, [image_id for ids in together for image_id in ids])
        chosen = []
        for ids in together:
            photos = [facts[image_id] for image_id in ids if image_id in facts]
            if len(photos) > 1 and (with_settled or not self._is_settled(photos)):
                chosen.append((choose(self._rules, photos), photos))
        pairs = [
            (choice.kept.id, photo.id)
            for choice, photos in chosen
            for photo in _one_a_content(photos)
            if photo.content_hash != choice.kept.content_hash
        ]
        scores = iter(score(pairs) if pairs else ())
        for choice, photos in chosen:
            scored = {choice.kept.content_hash: (1.0, True)}
            for photo in _one_a_content(photos):
                if photo.content_hash != choice.kept.content_hash:
                    scored[photo.content_hash] = next(scores)
            left = photos if with_settled else self._without_different(photos, scored)
            if len(left) > 1:
                yield self._group(choice, left, scored)

    def _is_settled(self, photos: Sequence[CopyFacts]) -> bool:
        """Whether all of them are in one settled group."""
        numbers = set.intersection(*(self._decided.get(photo.content_hash, set()) for photo in photos))
        several = len({photo.content_hash for photo in photos}) > 1
        return any(several or self._settled[number].verdict != DIFFERENT for number in numbers)

    def _without_different(
        self, photos: list[CopyFacts], scored: Mapping[bytes, tuple[float, bool]]
    ) -> list[CopyFacts]:
        """Leave out photos that are different, by the user's word, from one that is more like the kept one.

        Such a pair comes together where a third photo is like both.
        """
        left = photos
        for number in set().union(*(self._decided.get(content, ()) for content in scored)):
            group = self._settled[number]
            if group.verdict == DIFFERENT:
                held = sorted(group.contents & scored.keys(), key=lambda content: -scored[content][0])
                left = [photo for photo in left if photo.content_hash not in held[1:]]
        return left

    def _group(self, choice: Choice, photos: Sequence[CopyFacts], scored: Scored) -> Group:
        """Keep the chosen photo, and one of each content that is not near enough to it."""
        kept = {choice.kept.content_hash: choice}
        for content, (_, near) in scored.items():
            if not near:
                kept[content] = choose(self._rules, [photo for photo in photos if photo.content_hash == content])
        copies = []
        for photo in photos:
            own = kept.get(photo.content_hash, choice)
            copy = self._copy(photo, scored[photo.content_hash][0])
            if photo.id != own.kept.id:
                copy = replace(copy, keep=False, why=own.why_not(photo), instead=own.kept.id)
            elif own is choice:
                copy = replace(copy, why=choice.why_kept(photos))
            copies.append(copy)
        copies.sort(key=lambda copy: (copy.id != choice.kept.id, -copy.score, copy.id))
        kind = EXACT if len({photo.content_hash for photo in photos}) == 1 else NEAR
        return Group(min(photo.id for photo in photos), kind, tuple(copies))

    def _copy(self, photo: CopyFacts, score: float) -> Copy:
        return Copy(
            id=photo.id,
            path=photo.path,
            file=self._root + photo.file_path,
            below=photo.file_path,
            score=score,
            keep=True,
            why="too little like the first photo to go for it",
            instead=None,
            size=photo.size,
            width=photo.width,
            height=photo.height,
            format=photo.format,
            modified_ns=photo.mtime_ns,
            content_hash=photo.content_hash,
        )


def _one_a_content(photos: Sequence[CopyFacts]) -> list[CopyFacts]:
    return list({photo.content_hash: photo for photo in reversed(photos)}.values())
