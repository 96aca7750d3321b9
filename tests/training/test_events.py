import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event, SessionLog

from ccnet.training.events import Events
from ccnet.training.validation import Picture
from tests import tiny

ROW = {"step": 10, "learning_rate": 0.1, "loss": 2.0, "gradient_norm": 3.0, "images_per_second": 4.0, "mean_iou": None}


def read(folder: Path) -> list[Event]:
    """The events of all files, in the order of their names; a record is length, checksum, event, checksum."""
    events = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            events.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return events


def scalars(folder: Path) -> dict[tuple[str, int], float]:
    values = ((event.step, value) for event in read(folder) for value in event.summary.value)
    return {(value.tag, step): value.simple_value for step, value in values if value.HasField("simple_value")}


def test_rows_are_scalars(tmp_path):
    with Events(tmp_path, 0, tiny.PALETTE) as events:
        events.row(ROW)
        events.row({"step": 20, "mean_iou": 0.5})
    expected = {("train/loss", 10): 2, ("train/learning_rate", 10): 0.1, ("train/gradient_norm", 10): 3,
                ("train/images_per_second", 10): 4, ("val/mean_iou", 20): 0.5}  # fmt: skip
    assert scalars(tmp_path) == pytest.approx(expected)


@pytest.mark.parametrize(("width", "shown"), [(48, (40, 144)), (960, (20, 1440))])
def test_a_picture_is_image_truth_and_prediction(tmp_path, width, shown):
    image, truth = tiny.draw(0, width, 40)
    with Events(tmp_path, 0, tiny.PALETTE) as events:
        events.pictures(5, [Picture("a", image, truth, np.zeros_like(truth))])
    (value,) = [value for event in read(tmp_path) for value in event.summary.value]
    panel = np.asarray(Image.open(io.BytesIO(value.image.encoded_image_string)))
    assert (value.tag, panel.shape) == ("val/a", (*shown, 3))
    assert panel[shown[0] // 2, -1].tolist() == tiny.PALETTE[0]


def test_a_resumed_training_discards_later_events_and_a_new_one_the_old_files(tmp_path):
    with Events(tmp_path, 0, tiny.PALETTE) as events:
        events.row(ROW)
    (old,) = tmp_path.iterdir()
    with Events(tmp_path, 7, tiny.PALETTE):
        pass
    assert old.exists()
    (start,) = [event for event in read(tmp_path) if event.session_log.status == SessionLog.START]
    assert start.step == 8
    with Events(tmp_path, 0, tiny.PALETTE):
        pass
    assert not scalars(tmp_path)


def test_a_full_disk_ends_the_events_alone(tmp_path, capsys):
    with Events(tmp_path, 0, tiny.PALETTE) as events:
        events._writer.flush = lambda: (_ for _ in ()).throw(OSError(28, "No space left on device"))
        events.row(ROW)
        events.row(ROW)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "no more events for TensorBoard: [Errno 28] No space left" in said


def test_a_folder_that_cannot_be_made_ends_the_events_alone(tmp_path, capsys):
    (tmp_path / "events").write_text("a file")
    with Events(tmp_path / "events", 0, tiny.PALETTE) as events:
        events.row(ROW)
    assert "no more events" in capsys.readouterr().err
