"""Texts to measure tokenizers on: those of files, and three short ones of our own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tongwen.errors import DataError
from tongwen.text import decode

PLAIN: Final = (".txt", ".md")
"""Files that are one text each, as is every file that is no source of rows."""

ZH: Final = """\
江南的春天来得早。刚过立春，河边的柳树便抽出了嫩芽，远远望去，像一层淡绿色的薄雾。清晨，卖菜的农民挑着担子从石桥\
上走过，扁担吱呀吱呀地响；茶馆里的炉火已经烧旺，老人们坐在窗前，一边喝茶，一边谈论昨天的新闻。孩子们背着书包跑过青\
石板路，笑声惊起了屋檐下的燕子。
2024年，这个小镇开通了高速铁路，到上海只要四十五分钟。许多年轻人回到家乡，有的开书店，有的用互联网把本地的丝绸卖到\
全国各地。镇上的中学请来了新的物理老师，他常说：“学问不在于记住多少答案，而在于会不会提出问题。”
科学家认为，人工智能将改变我们的生产方式，但不会代替人的判断。研究人员用大量文本训练语言模型，使计算机能够理解问题、\
翻译文章、编写程序。与此同时，如何保护个人信息，如何防止虚假内容传播，也成为社会各界关心的问题。
"""
EN: Final = """\
Spring comes early south of the river. Soon after the first warm days the willows on the bank put \
out their buds, and from far away they look like a thin green mist. In the morning the farmers \
carry their baskets over the stone bridge; the fire in the tea house is already burning, and the \
old men sit at the window, drinking tea and talking about yesterday's news. Children with their \
satchels run along the paved lane, and their laughter startles the swallows under the eaves.
In 2024 the little town was connected to the high-speed railway, and Shanghai is now only \
forty-five minutes away. Many young people have come home: some keep a bookshop, others sell the \
silk of the region to the whole country over the Internet. The school has a new physics teacher, \
who likes to say, "Learning isn't remembering many answers; it's being able to ask a question."
Scientists believe that artificial intelligence will change how we work but won't replace human \
judgement. Researchers train language models on large amounts of text, so that computers can \
understand questions, translate articles and write programs.
"""
CODE: Final = '''\
from collections import Counter


class WordCount:
    """Counts the words of files."""

    def __init__(self, paths: list[str], smallest: int = 2) -> None:
        self.paths = paths
        self.smallest = smallest
        self._counts: Counter[str] = Counter()

    def run(self) -> dict[str, int]:
        for path in self.paths:
            with open(path, encoding="utf-8") as file:
                for number, line in enumerate(file, start=1):
                    if not line.strip() or line.startswith("#"):
                        continue
                    self._counts.update(word.lower() for word in line.split())
        return {k: v for k, v in self._counts.items() if v >= self.smallest}


if __name__ == "__main__":
    print(WordCount(["a.txt", "b.txt"]).run())
'''


@dataclass(frozen=True)
class Sample:
    """A text with a name."""

    name: str
    text: str


OWN: Final = (Sample("zh", ZH), Sample("en", EN), Sample("code", CODE))
"""What is measured where no file is named: prose in two languages, and Python."""


def read_samples(paths: Sequence[Path], characters: int) -> list[Sample]:
    """The first `characters` of each file; a file without text is a DataError."""
    samples = []
    for path in paths:
        text = _head(texts_in([path]), characters)
        if not text:
            raise DataError(f"{path} has no text", "give files of text or of conversations")
        samples.append(Sample(path.stem, text))
    return samples


def texts_in(paths: Sequence[Path]) -> Iterator[str]:
    """The texts of files and folders, in order: of rows all messages, and other files whole.

    Rows that cannot be read have no part in a measurement.
    """
    # Readers of a dozen formats, wanted only where there is something to read.
    from tongwen.sources import SUFFIXES, expand

    for path in paths:
        files = expand([path]).files if path.is_dir() else (path,)
        for file in files:
            if file.suffix.lower() in SUFFIXES and file.suffix.lower() not in PLAIN:
                yield from _of_rows(file)
            else:
                yield decode(file.read_bytes()).replace("\r\n", "\n")


def _of_rows(file: Path) -> Iterator[str]:
    from tongwen.messages import parse, texts_of
    from tongwen.sources import Reject, open_source

    for row in open_source(file).rows():
        if isinstance(row, Reject):
            continue
        try:
            yield from texts_of(parse(row.record))
        except DataError:
            continue


def _head(texts: Iterator[str], characters: int) -> str:
    """The first characters of the texts, a line break between two of them."""
    parts: list[str] = []
    length = 0
    for text in texts:
        parts.append(text)
        length += len(text) + 1
        if length > characters:
            break
    return "\n".join(parts)[:characters]
