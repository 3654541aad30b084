"""Trains the scorer: an image tower and a text tower that agree about which caption belongs to which picture.

Both towers also learn to name the attributes. The text tower does so at the padding positions 24 to 32, one
attribute each: there it writes a canonical description of the scene, which the pipeline's UNet then reads.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from experiments.shapes import tokenizer as tokenizers
from experiments.shapes.data import WORDINGS, Pictures, load
from experiments.shapes.training import Training, averaged_weights
from t2i_track.shapes import BACKGROUNDS, COLOURS, HEADS, SHAPES, SIZES, Scene, Stream, Thing, caption

BATCH = 96  # a step
WIDTH = 128
REGISTER = 24  # the first padding position that names an attribute; the longest caption has 21 tokens
SHORT = REGISTER + len(HEADS)
CLASSES = [len(names) for names in HEADS.values()]


def config() -> CLIPConfig:
    shared = {"num_attention_heads": 4, "projection_dim": WIDTH, "hidden_size": WIDTH, "hidden_act": "gelu"}
    tokens = tokenizers.build()
    text = {
        **shared,
        "vocab_size": len(tokens),
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 3,
        "max_position_embeddings": tokenizers.LENGTH,
        "bos_token_id": tokens.bos_token_id,
        "eos_token_id": tokens.eos_token_id,
        "pad_token_id": tokens.pad_token_id,
    }
    vision = {**shared, "intermediate_size": 2 * WIDTH, "num_hidden_layers": 4, "image_size": 64, "patch_size": 8}
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH)


class Scorer(nn.Module):
    """The CLIP model with the heads that are thrown away after training."""

    def __init__(self) -> None:
        super().__init__()
        self.clip = CLIPModel(config())
        self.image_heads = nn.Linear(WIDTH, sum(CLASSES))
        self.text_heads = nn.ModuleList(nn.Linear(WIDTH, n) for n in CLASSES)

    def images(self, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
        pooled = self.clip.vision_model(pixel_values=pixels).pooler_output
        named = list(self.image_heads(pooled).split(CLASSES, 1))
        return F.normalize(self.clip.visual_projection(pooled), dim=-1), named

    def texts(self, tokens: Tensor) -> tuple[Tensor, list[Tensor]]:
        output = self.clip.text_model(input_ids=tokens)
        registers = output.last_hidden_state[:, REGISTER:SHORT]
        named = [head(registers[:, i]) for i, head in enumerate(self.text_heads)]
        return F.normalize(self.clip.text_projection(output.pooler_output), dim=-1), named


def tokens_of(tokenizer: CLIPTokenizer, captions: list[str], length: int = SHORT) -> Tensor:
    batch = tokenizer(captions, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return batch["input_ids"]  # type: ignore[no-any-return]


def altered(scene: Scene, stream: Stream) -> Scene:
    """A scene that is wrong in one respect: sides swapped, another count, or one attribute of one object."""
    while True:
        first, second, axis, count = scene.first, scene.second, scene.axis, scene.count
        choice = stream.below(3)
        if second and choice == 0:
            first, second = second, first
        elif second and choice == 1:
            axis = "vertical" if axis == "horizontal" else "horizontal"
        elif scene.kind == "count" and choice == 0:
            count = stream.pick((2, 3, 4))
        elif second and stream.below(2):
            second = _repaint(second, stream)
        else:
            first = _repaint(first, stream)
        background = stream.pick(tuple(BACKGROUNDS)) if stream.below(8) == 0 else scene.background
        try:
            other = Scene(scene.kind, count, background, first, second, axis)
        except ValueError:  # two objects that have become alike
            continue
        if other != scene:
            return other


def _repaint(thing: Thing, stream: Stream) -> Thing:
    parts = {"shape": SHAPES, "colour": tuple(COLOURS), "size": SIZES}
    name = stream.pick(("shape", "colour", "size"))
    return Thing(**{"shape": thing.shape, "colour": thing.colour, "size": thing.size, name: stream.pick(parts[name])})


def train(work: Path, seconds: float, seed: int = 0, device: str = "cpu") -> None:
    torch.manual_seed(seed)
    train_set, val, tokenizer = load(work, "train"), load(work, "val"), tokenizers.build()
    scenes = train_set.scenes()
    tokens = torch.stack([tokens_of(tokenizer, [c[w] for c in train_set.captions]) for w in range(WORDINGS)], 1)
    model = Scorer()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "lr": 1.2e-3, "weight_decay": 0.05},
        {"params": others, "lr": 1.2e-3, "weight_decay": 0.0},
    ]
    training = Training("clip", model, groups, seconds, work, device=device, ema=0.995, seed=seed)
    batch = training.share(BATCH)

    def loss(generator: torch.Generator, _: float) -> Tensor:
        chosen = torch.randint(len(train_set), (batch,), generator=generator)
        wording = torch.randint(WORDINGS, (batch,), generator=generator)
        stream = Stream(seed, training.step, training.rank)
        wrong = [caption(altered(scenes[i], stream), stream) for i in chosen.tolist()]
        image, seen = model.images(train_set.batch(chosen).to(device))
        text, read = model.texts(torch.cat([tokens[chosen, wording], tokens_of(tokenizer, wrong)]).to(device))
        labels = train_set.labels[chosen].to(device)
        named = sum(F.cross_entropy(logits, labels[:, i]) for i, logits in enumerate(seen))
        told = sum(F.cross_entropy(logits[:batch], labels[:, i]) for i, logits in enumerate(read))
        return contrast(image, text, labels, model.clip.logit_scale) + 0.3 * (named + told)

    def validate(averaged: nn.Module) -> dict[str, float]:
        assert isinstance(averaged, Scorer)
        averaged.cpu()
        return {"retrieval_256": retrieval(averaged, val), **read_accuracy(averaged, val)}

    training.run(loss, validate)


def contrast(image: Tensor, text: Tensor, labels: Tensor, scale: Tensor) -> Tensor:
    """InfoNCE both ways; the texts' second half are hard negatives, and equal scenes are no negatives."""
    n = len(image)
    logits = scale.exp().clamp(max=100) * image @ text.T
    same = (labels[:, None] == labels[None]).all(-1) & ~torch.eye(n, dtype=torch.bool, device=labels.device)
    logits = torch.cat([logits[:, :n].masked_fill(same, -1e4), logits[:, n:]], 1)
    target = torch.arange(n, device=labels.device)
    return F.cross_entropy(logits, target) + F.cross_entropy(logits[:, :n].T, target)


@torch.no_grad()
def retrieval(model: Scorer, pictures: Pictures, among: int = 256) -> float:
    """Share of pictures whose own caption scores highest among those of `among` different scenes."""
    # Captions that say the same in other words are all right; only different scenes can tell a good scorer.
    first = {scene: i for i, scene in reversed(list(enumerate(pictures.scenes())))}
    chosen, tokenizer, right = torch.tensor(sorted(first.values())), tokenizers.build(), []
    for part in torch.split(chosen, among):
        if len(part) == among:
            image, _ = model.images(pictures.batch(part))
            text, _ = model.texts(tokens_of(tokenizer, [pictures.captions[i][0] for i in part.tolist()]))
            right.append((image @ text.T).argmax(1) == torch.arange(among))
    return float(torch.cat(right).float().mean())


@torch.no_grad()
def read_accuracy(model: Scorer, pictures: Pictures) -> dict[str, float]:
    """How often the text tower names every attribute rightly, and the image tower likewise."""
    tokenizer = tokenizers.build()
    _, read = model.texts(tokens_of(tokenizer, [c[0] for c in pictures.captions]))
    told = torch.stack([logits.argmax(1) for logits in read], 1) == pictures.labels
    seen = []
    for i in range(0, len(pictures), 256):
        _, named = model.images(pictures.batch(torch.arange(i, min(i + 256, len(pictures)))))
        seen.append(torch.stack([logits.argmax(1) for logits in named], 1))
    shown = torch.cat(seen) == pictures.labels
    return {"text_all": float(told.all(1).float().mean()), "image_mean": float(shown.float().mean())}


def load_scorer(work: Path) -> Scorer:
    model = Scorer()
    model.load_state_dict(averaged_weights(work, "clip"))
    return model.eval()
