"""What needs a GPU, measured by one command within minutes, and its cards under results/measured/."""

from .cards import load_card, measured_dir, measured_peak, memory_cards, save_card, slug

__all__ = ["load_card", "measured_dir", "measured_peak", "memory_cards", "save_card", "slug"]
