"""Where PyTorch is not installed, its front ends' own examples are not collected (their tests say why they skip)."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("torch") else ["src/exactgrad/*/torch.py"]
