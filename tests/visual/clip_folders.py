"""Small CLIP checkpoints with seeded random weights, as published ones lie in their folders."""

import json

import torch
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
)

N_BLOCKS, WIDTH, PROJECTED, IMAGE_PX = 6, 32, 24, 64


def save_clip(folder, *, image_px=IMAGE_PX, seed=0, processor=None, whole=True, **vision):
    """Write a whole CLIP (or its vision tower alone) and its processor; return the folder."""
    config = CLIPConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=N_BLOCKS,
            num_attention_heads=4, image_size=image_px, patch_size=16, projection_dim=PROJECTED,
            **vision,
        ),
        text_config=CLIPTextConfig(
            hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
            vocab_size=50, max_position_embeddings=8, projection_dim=PROJECTED,
        ),
        projection_dim=PROJECTED,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLIPModel(config).eval()
        with torch.no_grad():  # fresh norms are ones and fresh biases zeros, which hides mistakes
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(0.3 * torch.randn_like(parameter))
                elif parameter.dim() == 2:
                    parameter.mul_(4.0)
    if whole:
        model.save_pretrained(folder)
    else:
        save_vision_tower(model, folder)
    settings = processor or {"size": {"shortest_edge": image_px}, "crop_size": image_px}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def save_vision_tower(model, folder):
    """Write what ``CLIPVisionModelWithProjection.save_pretrained`` writes."""
    from transformers import CLIPVisionModelWithProjection

    tower = CLIPVisionModelWithProjection(model.config.vision_config)
    tower.vision_model.load_state_dict(model.vision_model.state_dict())
    tower.visual_projection.load_state_dict(model.visual_projection.state_dict())
    tower.save_pretrained(folder)


def edit_config(folder, change):
    """Let `change` alter the folder's config.json."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


class Reference:
    """CLIP as its own library runs it: the whole model, its own processor, one image after the other."""

    def __init__(self, folder):
        self.model = CLIPModel.from_pretrained(folder).eval()
        self.processor = CLIPImageProcessorPil.from_pretrained(folder)

    def pixels(self, image):
        return self.processor(images=image, return_tensors="pt")["pixel_values"]

    @torch.no_grad()
    def embed(self, images):
        rows = [self.model.get_image_features(self.pixels(image)) for image in images]
        return torch.cat([getattr(row, "pooler_output", row) for row in rows]).numpy()

    @torch.no_grad()
    def hidden(self, pixels):
        states = self.model.vision_model(pixels, output_hidden_states=True).hidden_states
        return [state[:, 0].numpy() for state in states]
