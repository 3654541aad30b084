"""What other programs say of their pictures: in them, beside them, and in tables of them. Nothing of it is trusted."""

FORMATS = (
    "a1111", "comfyui", "fooocus", "invokeai", "novelai", "swarmui", "diffusers", "imagefolder", "scripts", "t2i-track",
)  # fmt: skip
