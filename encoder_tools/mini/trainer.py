"""One process of a training run of `mini`: steps, gradients averaged with the others, checkpoints, logs."""

from __future__ import annotations

import csv
import time
from multiprocessing import parent_process
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..training.answers import continued_with, mask_iou
from ..training.simulated_user import SimulatedUser
from .blocks import channels_last
from .config import CropPlan, TrainConfig
from .crops import Batch, CropSampler
from .decoder import Context, PromptDecoder
from .losses import answer_loss, change_loss, edge_loss, target_of
from .network import MiniNet, normalise
from .onnx_weights import load_network
from .sources import load_scenes
from .validation import ValidationSet

__all__ = ["Trainer", "best_checkpoint", "crop_plan"]

CHECKPOINT, BEST = "checkpoint.pt", "best.pt"
TRAINING_LOG, VALIDATION_LOG = "log.csv", "validation.csv"
LOG_FIELDS = ("step", "seconds", "learning_rate", "size", "loss", "edge", "iou_first", "iou_last")


def best_checkpoint(run: Path) -> Path:
    """Return the checkpoint of a run's best weights on held-out imagery, or the last one if there is none."""
    best = run / BEST
    return best if best.is_file() else run / CHECKPOINT


class Trainer:
    """One process of a training run.

    Parameters
    ----------
    config : TrainConfig
    data, out : Path
        Training imagery; folder of checkpoint and log.
    minutes : float or None
        Time limit of the run, including the time before it was resumed. The learning rate falls to zero with it.
    rank : int
        Number of this process.
    begin_with : Path or None
        Checkpoint or folder of ONNX files whose weights the run begins with; ignored by a run that resumes.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: Path,
        out: Path,
        minutes: float | None,
        rank: int,
        begin_with: Path | None = None,
    ) -> None:
        self.config, self.out, self.minutes, self.rank = config, out, minutes, rank
        torch.manual_seed(config.seed)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.net = MiniNet().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = MiniNet().to(self.device)
        self.average.load_state_dict(self.net.state_dict())
        decayed = [p for p in self.net.parameters() if p.ndim > 1]
        plain = [p for p in self.net.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=config.learning_rate,
            betas=(0.9, 0.98),
        )
        self.step = 0
        self.spent = 0.0
        self.best, self.since_best = 0.0, 0
        self.frozen = False
        self.known: MiniNet | None = None
        if begin_with is not None:
            first = load_network(begin_with)[0].to(self.device).requires_grad_(False)
            self.net.load_state_dict(first.state_dict())
            self.average.load_state_dict(first.state_dict())
            self.known = first.eval() if config.keep else None
        if (out / CHECKPOINT).is_file():
            self._load(out / CHECKPOINT)
        seed = (config.seed, rank, self.step)
        self.sampler = CropSampler(load_scenes(data, config.seed), config.source_shares, seed)
        self.validation = ValidationSet(data, rank, dist.get_world_size() if dist.is_initialized() else 1)
        self.begun = time.monotonic() - self.spent

    def _load(self, path: Path) -> None:
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.spent = int(state["step"]), float(state["seconds"])
        self.best, self.since_best = float(state["best"]), int(state["since_best"])
        if self.rank == 0:
            for name in (TRAINING_LOG, VALIDATION_LOG):
                _forget_after(self.out / name, self.step)

    def _save(self, name: str = CHECKPOINT) -> None:
        state = {
            "net": self.net.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": time.monotonic() - self.begun,
            "best": self.best,
            "since_best": self.since_best,
        }
        partial = self.out / f"{name}.part"
        torch.save(state, partial)
        partial.replace(self.out / name)

    def progress(self) -> float:
        """Return how much of the run is done, 0 to 1, by steps or by time."""
        done = self.step / self.config.steps
        if self.minutes is not None:
            done = max(done, (time.monotonic() - self.begun) / (60.0 * self.minutes))
        return min(1.0, done)

    def run(self) -> None:
        """Train to the end."""
        progress = self._share_progress()
        started_by = parent_process()
        while progress < 1.0 and self.since_best < self.config.patience:
            if started_by is not None and not started_by.is_alive():
                raise SystemExit("the command that started this training has ended")
            if not self.frozen:
                self.net.train()
                if progress >= self.config.freeze_norm_at:
                    self._freeze_norm()
            rate = self._set_rate(progress)
            plan = crop_plan(self.config, self.step, progress, self.frozen)
            numbers = self._step(plan)
            self.step += 1
            progress = self._share_progress()
            ending = progress >= 1.0
            if ending or self.step % self.config.validate_every == 0:
                self._validate()
            if self.rank == 0:
                self._log(rate, plan, numbers)
                if ending or self.step % self.config.checkpoint_every == 0:
                    self._save()

    def _validate(self) -> None:
        """Measure the averaged weights on held-out imagery, and save them if they are the best so far."""
        found = self.validation.measure(self.average)
        if not found:
            return
        score = float(np.mean(list(found.values())))
        better = score > self.best
        self.best, self.since_best = (score, 0) if better else (self.best, self.since_best + 1)
        if self.rank != 0:
            return
        if better:
            self._save(BEST)
        path = self.out / VALIDATION_LOG
        fresh = not path.is_file()
        with path.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            if fresh:
                writer.writerow(["step", "seconds", *found])
            seconds = time.monotonic() - self.begun
            writer.writerow([self.step, f"{seconds:.1f}", *(f"{value:.4f}" for value in found.values())])

    def _share_progress(self) -> float:
        value = torch.tensor([self.progress()])
        if dist.is_initialized():
            dist.broadcast(value, 0)
        return float(value)

    def _freeze_norm(self) -> None:
        """Average the running statistics of all processes and keep them from now on."""
        self.frozen = True
        for module in self.net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
                for buffer in (module.running_mean, module.running_var):
                    if buffer is not None and dist.is_initialized():
                        dist.all_reduce(buffer)
                        buffer /= dist.get_world_size()

    def _set_rate(self, progress: float) -> float:
        warm = min(1.0, (self.step + 1) / self.config.warm_up_steps)
        rate = self.config.learning_rate * warm * (0.5 + 0.5 * float(np.cos(np.pi * progress)))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def _step(self, plan: CropPlan) -> dict[str, float]:
        batch = self.sampler.batch(plan)
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            loss, numbers = self._loss(batch, plan)
        self.optimizer.zero_grad(set_to_none=False)
        loss.backward()  # type: ignore[no-untyped-call]
        self._average_gradients()
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), self.config.clip_norm)
        if torch.isfinite(norm):
            self.optimizer.step()
        self._update_average()
        return numbers

    def _loss(self, batch: Batch, plan: CropPlan) -> tuple[Tensor, dict[str, float]]:
        """Run all rounds of prompts on one batch."""
        rng = self.sampler.rng
        images = torch.from_numpy(batch.images).to(self.device)
        packed = self.net.encoder(normalise(images).contiguous(memory_format=torch.channels_last))
        edges = self.net.encoder.edge_logits(packed).float()
        edge = edge_loss(
            edges,
            torch.from_numpy(batch.edges).to(self.device),
            torch.from_numpy(batch.edge_weight).to(self.device),
        )
        context = _for_objects(self.net.decoder, packed, plan.objects)
        user = SimulatedUser(batch.masks, rng)
        truth = torch.from_numpy(batch.masks).to(self.device, torch.float32)[:, None]
        target = target_of(truth)
        count = len(batch.masks)
        previous = torch.zeros_like(truth)
        has_mask = torch.zeros(count, device=self.device)
        # Every process plays the same number, so that none waits for another.
        rounds = int(np.random.default_rng([self.config.seed, self.step, 1]).choice([2, 3, 4], p=[0.5, 0.3, 0.2]))
        total = 0.3 * edge
        ious = []
        for turn in range(rounds):
            coords, labels = (torch.from_numpy(part).to(self.device) for part in user.points())
            masks, scores, coarse = self.net.decoder(context, coords, labels, previous, has_mask)
            ambiguous = torch.from_numpy(user.single_click.astype(np.float32)).to(self.device)
            others = self._other_meanings(batch, user, coords) if turn == 0 else None
            total = total + answer_loss(masks, scores, coarse, target, ambiguous, others) / rounds
            if turn == 0:
                total = total + self._change(batch, images, plan.objects, (coords, labels, ambiguous), masks)
            with torch.no_grad():
                previous = continued_with(masks, scores, truth, ambiguous, rng)
                ious.append(float(mask_iou(previous, truth).mean()))
                if turn + 1 < rounds:
                    user.correct((previous[:, 0] > 0).cpu().numpy())
            has_mask = torch.from_numpy((rng.random(count) < 0.9).astype(np.float32)).to(self.device)
        numbers = {
            "loss": float(total.detach()),
            "edge": float(edge.detach()),
            "iou_first": ious[0],
            "iou_last": ious[-1],
        }
        return total, numbers

    def _change(
        self, batch: Batch, images: Tensor, objects: int, prompts: tuple[Tensor, Tensor, Tensor], masks: Tensor
    ) -> Tensor:
        """Return the loss of first answers on known kinds that differ from those of the earlier network."""
        crops = [number for number, kind in enumerate(batch.kinds) if kind in self.config.kept_kinds]
        if self.known is None or not crops:
            return torch.zeros((), device=self.device)
        some = torch.tensor([crop * objects + number for crop in crops for number in range(objects)])
        coords, labels, ambiguous = (part[some] for part in prompts)
        none = torch.zeros_like(masks[some, :1])
        with torch.no_grad():
            pixels = normalise(images[crops]).contiguous(memory_format=torch.channels_last)
            context = _for_objects(self.known.decoder, self.known.encoder(pixels), objects)
            earlier = self.known.decoder(context, coords, labels, none, none[:, 0, 0, 0])[0]
        return self.config.keep * change_loss(masks[some], earlier, ambiguous).sum() / len(masks)

    def _other_meanings(self, batch: Batch, user: SimulatedUser, coords: Tensor) -> tuple[Tensor, Tensor]:
        """Return the other objects that hold single clicks, as `answer_loss` takes them."""
        owner, masks = batch.other_meanings(coords[:, 0].cpu().numpy())
        clicked = user.single_click[owner]
        meant = torch.from_numpy(masks[clicked]).to(self.device, torch.float32)[:, None]
        return torch.from_numpy(owner[clicked]).to(self.device), meant

    def _average_gradients(self) -> None:
        if not dist.is_initialized():
            return
        gradients = [p.grad for p in self.net.parameters() if p.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        offset = 0
        for gradient in gradients:
            gradient.copy_(flat[offset : offset + gradient.numel()].view_as(gradient))
            offset += gradient.numel()

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.config.ema_decay, (self.step + 1) / (self.step + 10))
        state = self.net.state_dict()
        for name, value in self.average.state_dict().items():
            if value.dtype.is_floating_point:
                value.lerp_(state[name], 1.0 - decay)

    def _log(self, rate: float, plan: CropPlan, numbers: dict[str, float]) -> None:
        path = self.out / TRAINING_LOG
        fresh = not path.is_file()
        with path.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            if fresh:
                writer.writerow(LOG_FIELDS)
            seconds = time.monotonic() - self.begun
            row = [self.step, f"{seconds:.1f}", f"{rate:.2e}", plan.size]
            writer.writerow(row + [f"{numbers[name]:.4f}" for name in LOG_FIELDS[4:]])
        if self.step % 20 == 0:
            print(
                f"step {self.step}  {seconds / 60:.1f} min  "
                + "  ".join(f"{name} {value:.3f}" for name, value in numbers.items()),
                flush=True,
            )


def _for_objects(decoder: PromptDecoder, packed: Tensor, objects: int) -> Context:
    """Return the context of each crop, repeated for every object on it."""
    parts = (part.repeat_interleave(objects, 0) for part in decoder.context(packed))
    a, b, c, d, e, f, g = (channels_last(part) if part.ndim == 4 else part for part in parts)
    return a, b, c, d, e, f, g


def crop_plan(config: TrainConfig, step: int, progress: float, is_frozen: bool) -> CropPlan:
    """Draw the crop shape of a step, the same in every process.

    Parameters
    ----------
    config : TrainConfig
    step : int
    progress : float
        Share of the run that is done.
    is_frozen : bool
        Whether batch normalisation keeps its running statistics, so that small batches will do.
    """
    later = config.last_plans if progress >= config.whole_tiles_at else config.late_plans
    plans = later if is_frozen else config.early_plans
    shares = np.array([plan.share for plan in plans])
    rng = np.random.default_rng([config.seed, step])
    return plans[int(rng.choice(len(plans), p=shares / shares.sum()))]


def _forget_after(log: Path, step: int) -> None:
    """Drop the rows of steps after the checkpoint that the run resumes from."""
    if log.is_file():
        header, *rows = log.read_text(encoding="utf-8").splitlines()
        kept = [row for row in rows if int(row.split(",")[0]) <= step]
        log.write_text("\n".join([header, *kept, ""]), encoding="utf-8")
