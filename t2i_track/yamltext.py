"""YAML of files that people write: no key twice, and no aliases that unfold to more than the file could say itself."""

from __future__ import annotations

from typing import Any

import yaml

MOST_NODES = 100_000
"""Values after all aliases are unfolded; a sweep of 10,000 prompts has a tenth of it."""


class NotYaml(ValueError):
    """What is wrong with a text, after the name of its file."""


def yaml_values(text: str) -> Any:
    """What the text holds.

    Raises:
        NotYaml: not YAML, a key twice, aliases that unfold without end, a date or number that is none, or too deep.
    """
    try:
        return _values(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        raise NotYaml(f"is not YAML{line} ({getattr(error, 'problem', error)})") from None
    except RecursionError:
        raise NotYaml("has a value that is none (nested too deeply)") from None
    except (ValueError, OverflowError) as error:  # a 13th month, more digits than Python reads
        raise NotYaml(f"has a value that is none ({' '.join(str(error).split())[:100]})") from None


def _values(text: str) -> Any:
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _unfolded(node, {}) > MOST_NODES:
            raise yaml.composer.ComposerError(
                None, None, f"its aliases unfold to over {MOST_NODES} values", node.start_mark
            )
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _unfolded(node: yaml.Node, known: dict[int, float]) -> float:
    """Values below the node, those of an alias counted wherever it stands; infinite where it holds itself."""
    if id(node) not in known:
        known[id(node)] = float("inf")  # until it is counted: an alias of itself
        children: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            _refuse_twice(node)
            children = [part for pair in node.value for part in pair]
        known[id(node)] = 1 + sum(_unfolded(child, known) for child in children)
    return known[id(node)]


def _refuse_twice(node: yaml.MappingNode) -> None:
    """PyYAML takes the last of two equal keys without a word."""
    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                problem = f"the key '{key.value}' is there twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
