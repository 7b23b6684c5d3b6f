"""Adds and replaces polygons of a layer: with QGIS's own feature creation, in its edit buffer, in one undo step.

Nothing is committed. The user saves the edits of the layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import shapely
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsFeatureRequest,
    QgsFieldConstraints,
    QgsGeometry,
    QgsProject,
    QgsVectorDataProvider,
    QgsVectorLayer,
    QgsVectorLayerUtils,
    QgsWkbTypes,
)
from qgis.PyQt import sip
from shapely.geometry.base import BaseGeometry

from ...core.coverage import Changes
from ...core.partition import border_ends
from ...core.topology import Outline, polygon_parts
from ...errors import EditBufferError, EditError, NoTargetError
from ...qgis_support.crs import from_qgs
from ...qgis_support.field_map import not_own
from ...qgis_support.fields import is_own
from ...qgis_support.messages import tr
from .layer_geometry import (
    AcceptOptions,
    LayerFitting,
    layer_geometries,
    vertex_on,
    vertices_with_heights,
    with_heights,
)
from .provenance import Provenance, keep_in_side_table, mapped_values, provenance_values

__all__ = [
    "AcceptOptions",
    "CancelledError",
    "check_target",
    "edit_command",
    "form_opener",
    "gone_from",
    "ids_are_places",
    "no_target",
    "write_changes",
    "write_polygon",
]

FormOpener = Callable[[QgsFeature], bool]

_SAME, _SAME_DEGREES = 1e-4, 1e-9
"""A vertex closer to an edge lies on it."""

_MOST_ROUNDS = 4


def check_target(layer: QgsVectorLayer | None, writes: bool = True) -> QgsVectorLayer:
    """Return the layer if it holds polygons and, if it will be written to, can be edited.

    Raises
    ------
    NoTargetError
        If there is no layer.
    EditError
        If it was removed, it is not a polygon layer, it has no CRS or it is read-only.
    """
    other = tr("choose another target layer")
    if layer is None:
        raise no_target()
    if sip.isdeleted(layer):
        raise EditError(tr("The target layer was removed"), other)
    name = layer.name()
    if not layer.isValid():
        raise EditError(tr("The data source of {name} is not available").format(name=name), other)
    if layer.geometryType() != QgsWkbTypes.PolygonGeometry:
        raise EditError(tr("{name} is not a polygon layer").format(name=name), other)
    if not layer.crs().isValid():
        raise EditError(tr("{name} has no CRS").format(name=name), tr("set it in the layer properties"))
    if writes and (layer.readOnly() or not layer.supportsEditing()):
        raise EditError(tr("{name} is read-only").format(name=name), other)
    return layer


def ids_are_places(layer: QgsVectorLayer) -> bool:
    """Tell whether the ids of features are places in a file, such as a Shapefile; deleting some then moves others."""
    return layer.providerType() == "ogr" and not layer.primaryKeyAttributes()


def no_target() -> NoTargetError:
    """Return the error for a missing target layer."""
    return NoTargetError(tr("There is no target layer"), tr("choose a polygon layer, or make a new one"))


def form_opener(iface: Any, layer: QgsVectorLayer) -> FormOpener:
    """Return what shows the attribute form of a new feature of a layer; see `write_polygon`."""
    return lambda feature: bool(iface.openFeatureForm(layer, feature, False, True))


def write_polygon(
    layer: QgsVectorLayer,
    polygon: BaseGeometry,
    crs: QgsCoordinateReferenceSystem,
    attributes: Mapping[str, Any],
    provenance: Provenance | None,
    options: AcceptOptions,
    form_opener: FormOpener | None = None,
    feature_id: int | None = None,
) -> int | None:
    """Add a polygon to a layer, or replace that of a feature, in one undo step and without committing.

    In a layer of single polygons the largest part is written to the feature, and the other parts become new features
    with the same attributes.

    Parameters
    ----------
    layer : QgsVectorLayer
        Editing is started if it is off.
    polygon : Polygon or MultiPolygon
        In ``crs``.
    crs : QgsCoordinateReferenceSystem
        CRS of the raster.
    attributes : mapping of str to value
        Values by field name. Other fields get their default values, or keep what they have.
    provenance : Provenance, optional
        Written to the fields that the layer has for it; ``attributes`` take precedence.
    options : AcceptOptions
    form_opener : callable, optional
        Shows the attribute form of a feature in the edit buffer, as ``iface.openFeatureForm(layer, feature)`` does, and
        returns False if the user cancels it. It is called if the options say so for new features, or if a value breaks
        a constraint.
    feature_id : int, optional
        The feature whose polygon is replaced; by default a new one is added.

    Returns
    -------
    int or None
        Id of the feature; None if the user cancelled the form.

    Raises
    ------
    EditError
        If the polygon cannot be written, or the feature was deleted. The layer is unchanged.
    """
    check_target(layer)
    if feature_id is not None and not layer.getFeature(feature_id).isValid():
        raise gone_from(layer)
    outline = LayerFitting(layer, crs, options, skip=feature_id).fit(polygon)
    changes = Changes({}, [outline]) if feature_id is None else Changes({feature_id: outline})
    text = tr("Add polygon") if feature_id is None else tr("Refine polygon")
    return write_changes(
        layer, changes, text, attributes, provenance, options, form_opener, feature_id, shares_vertices=True
    )


def write_changes(
    layer: QgsVectorLayer,
    changes: Changes,
    text: str,
    attributes: Mapping[str, Any] | None = None,
    provenance: Provenance | None = None,
    options: AcceptOptions | None = None,
    form_opener: FormOpener | None = None,
    feature_id: int | None = None,
    *,
    shares_vertices: bool = False,
) -> int | None:
    """Write geometries that change together, in one undo step and without committing.

    In a layer of single polygons the largest part of each is written to its feature, and the other parts become new
    features with the same attributes. A feature whose outline stays as it is keeps its geometry, with Z, M and curves.

    Parameters
    ----------
    layer : QgsVectorLayer
        Editing is started if it is off.
    changes : Changes
        In the CRS of the layer, by feature id.
    text : str
        Name of the undo step.
    attributes, provenance, options, form_opener
        As in `write_polygon`, for the new features or for ``feature_id``; options only for the form and the table.
        New features begin with the attributes of ``changes.source``.
    feature_id : int, optional
        The feature that is refined.
    shares_vertices : bool
        Whether neighbours get the ends of new borders; the polygons of a coverage have them already.

    Returns
    -------
    int or None
        Id of ``feature_id`` or of the first new feature, else of the first one that changed; None if nothing did, or
        the user cancelled the form.

    Raises
    ------
    EditError
        If they cannot be written, or a feature was deleted. The layer is unchanged.
    """
    check_target(layer)
    if feature_id is None and not (changes.changed or changes.new or changes.removed):
        return None
    options = options or AcceptOptions()
    _check_possible(layer, changes)
    values = _values(layer, attributes or {}, provenance)
    if changes.source is not None:
        values = {**_attributes(layer.getFeature(changes.source)), **values}
    before = {key: layer.getFeature(key).geometry() for key in _involved(changes)}
    known = vertices_with_heights(before.values())

    def geometries_of(outline: Outline, key: int | None) -> list[QgsGeometry]:
        # Polygons may have different heights at the same place.
        own = [before[key]] if key is not None else []
        return layer_geometries(
            layer, outline, {**known, **vertices_with_heights(own)}, with_heights([*own, *before.values()])
        )

    changed = {
        key: geometries_of(outline, key)
        for key, outline in changes.changed.items()
        if not _is_same(outline, from_qgs(before[key]))
    }
    parts = [part for outline in changes.new for part in geometries_of(outline, changes.source)]
    new = _new_feature(layer, parts[0], values) if parts else None
    if new is not None and form_opener is None:
        _check_constraints(layer, new)
    is_asked = new is not None and options.open_form
    written: list[QgsFeature] = []
    refined = changed[feature_id][0] if feature_id in changed else None
    try:
        with edit_command(layer, text):
            for key in changes.removed:
                if not layer.deleteFeature(key):
                    raise _refused(layer)
            for key, geometries in changed.items():
                if key != feature_id:
                    _change(layer, key, geometries[0], {})
            if new is not None or feature_id is not None:
                feature = _add(layer, new) if new is not None else _change(layer, feature_id, refined, values)
                if form_opener is not None and (is_asked or _broken_field(layer, feature) is not None):
                    feature = _fill_in(layer, feature, form_opener)
                same = values if feature is new else _attributes(feature)
                written = [feature, *(_add(layer, _new_feature(layer, part, same)) for part in parts[1:])]
            for key, geometries in changed.items():
                same = _attributes(layer.getFeature(key))
                others = [_add(layer, _new_feature(layer, part, same)) for part in geometries[1:]]
                written += others if key == feature_id else []
            if shares_vertices and (new is not None or refined is not None):
                _share_vertices(layer, written)
    except CancelledError:
        return None
    if provenance is not None and options.provenance_table:
        for feature in written:
            keep_in_side_table(layer, feature.id(), provenance)
    layer.triggerRepaint()
    return int(written[0].id()) if written else next(iter(changed), None)


def _is_same(first: BaseGeometry, second: BaseGeometry) -> bool:
    """Tell whether polygons have the same vertices, wherever their rings begin."""
    one, other = (shapely.MultiPolygon(polygon_parts(polygon)).normalize() for polygon in (first, second))
    return bool(shapely.equals_exact(one, other))


def _involved(changes: Changes) -> list[int]:
    """Return the features that change, are removed or give their attributes."""
    return [*changes.changed, *changes.removed, *([] if changes.source is None else [changes.source])]


def _check_possible(layer: QgsVectorLayer, changes: Changes) -> None:
    """Check that a layer has all features that change, and allows it."""
    if not all(layer.getFeature(key).isValid() for key in _involved(changes)):
        raise gone_from(layer)
    if changes.new:
        _check_can(layer, QgsVectorDataProvider.AddFeatures, tr("No polygons can be added to {name}"))
    if changes.changed:
        _check_can(layer, QgsVectorDataProvider.ChangeGeometries, tr("The geometries of {name} cannot be changed"))
    if changes.removed:
        _check_can(layer, QgsVectorDataProvider.DeleteFeatures, tr("No polygons of {name} can be deleted"))


def gone_from(layer: QgsVectorLayer) -> EditError:
    """Return the error that a feature is no longer there."""
    return EditError(tr("The polygon is no longer in {name}").format(name=layer.name()), tr("draw it again"))


def _check_can(layer: QgsVectorLayer, capability: Any, problem: str) -> None:
    if not layer.dataProvider().capabilities() & capability:
        raise EditError(problem.format(name=layer.name()), tr("choose another target layer"))


def _values(layer: QgsVectorLayer, attributes: Mapping[str, Any], provenance: Provenance | None) -> dict[int, Any]:
    """Return values by field index, converted to the type of each field."""
    fields = layer.fields()
    values: dict[int, Any] = {}
    if provenance is not None:
        values = {**provenance_values(fields, provenance), **mapped_values(layer, provenance)}
    for name, value in attributes.items():
        index = fields.lookupField(name)
        if index < 0:
            problem = tr("{layer} has no field {field}").format(layer=layer.name(), field=name)
            raise EditError(problem, tr("choose another class field"))
        if not is_own(fields, index):
            raise not_own(layer, name)
        try:
            values[index] = fields.at(index).convertCompatible(value)
        except ValueError as error:
            problem = tr("The field {field} cannot hold the value {value}").format(field=name, value=value)
            raise EditError(problem, tr("choose another class or another field")) from error
    return values


def _broken_field(layer: QgsVectorLayer, feature: QgsFeature) -> tuple[str, str] | None:
    """Return the first field whose value breaks a hard constraint, as the attribute form of QGIS finds it, and why."""
    strength = QgsFieldConstraints.ConstraintStrength.ConstraintStrengthHard
    for index, field in enumerate(layer.fields()):  # type: ignore[arg-type, var-annotated]
        fits, errors = QgsVectorLayerUtils.validateAttribute(layer, feature, index, strength)
        if not fits:
            return field.displayName(), "; ".join(errors)
    return None


def _check_constraints(layer: QgsVectorLayer, feature: QgsFeature) -> None:
    broken = _broken_field(layer, feature)
    if broken is not None:
        problem = tr("The value of the field {field} of {layer} breaks a constraint: {reason}")
        raise EditError(
            problem.format(layer=layer.name(), field=broken[0], reason=broken[1]),
            tr("choose a class, set a default value, or turn on Open the form"),
        )


class CancelledError(Exception):
    """Raised in an edit command or a check when the user cancels it, such as a form."""


def _fill_in(layer: QgsVectorLayer, feature: QgsFeature, opener: FormOpener) -> QgsFeature:
    """Show the form of a feature in the edit buffer, and return the feature as it is then."""
    wanted = opener(feature)
    check_target(layer)
    if not wanted:
        raise CancelledError
    shown = layer.getFeature(feature.id())
    _check_constraints(layer, shown)
    return shown


@contextmanager
def edit_command(layer: QgsVectorLayer, text: str) -> Iterator[None]:
    """Make one undo step of the edits inside; after an error the layer is unchanged.

    Editing is started if it is off, and stopped again if the user cancels the step. A step inside another one is a part
    of it.
    """
    was_off = not layer.isEditable()
    if was_off and not layer.startEditing():
        problem = tr("{name} cannot be edited").format(name=layer.name())
        raise EditError(problem, tr("check that its file is writable and not open in another program"))
    if layer.isEditCommandActive():
        yield
        return
    # Any error found later belongs to this command.
    layer.dataProvider().clearErrors()
    layer.beginEditCommand(text)
    try:
        yield
    except BaseException as error:
        # The user may remove the layer while the form is open.
        if not sip.isdeleted(layer):
            layer.destroyEditCommand()
            if was_off and isinstance(error, CancelledError) and not layer.undoStack().count():
                layer.rollBack()
        raise
    layer.endEditCommand()


def _new_feature(layer: QgsVectorLayer, geometry: QgsGeometry, values: Mapping[int, Any]) -> QgsFeature:
    """Return a feature with default values for the other fields; values that must be unique are replaced."""
    return QgsVectorLayerUtils.createFeature(layer, geometry, dict(values), layer.createExpressionContext())


def _add(layer: QgsVectorLayer, feature: QgsFeature) -> QgsFeature:
    if not layer.addFeature(feature):
        raise _refused(layer)
    return feature


def _attributes(feature: QgsFeature) -> dict[int, Any]:
    return dict(enumerate(feature.attributes()))


def _change(
    layer: QgsVectorLayer, feature_id: Any, geometry: QgsGeometry | None, values: Mapping[int, Any]
) -> QgsFeature:
    is_done = geometry is None or layer.changeGeometry(feature_id, geometry)
    if not is_done or not all(layer.changeAttributeValue(feature_id, index, value) for index, value in values.items()):
        raise _refused(layer)
    return layer.getFeature(feature_id)


def _refused(layer: QgsVectorLayer) -> EditBufferError:
    """Return the error to raise, with the reason if the database gave one (in a transaction group it does)."""
    reasons = layer.dataProvider().errors()
    if not reasons:
        return EditBufferError(
            tr("The polygon was not written to {name}").format(name=layer.name()), tr("see the log of QGIS")
        )
    problem = tr("The polygon was not written to {name}: {reason}")
    return EditBufferError(
        problem.format(name=layer.name(), reason=reasons[-1].partition("\n")[0]),
        tr("correct the values of its fields, or choose another target layer"),
    )


def _share_vertices(layer: QgsVectorLayer, features: list[QgsFeature]) -> None:
    """Give new borders the same vertices on both sides.

    With topological editing QGIS does it. Otherwise only the ends of borders are missing in the neighbours, which the
    polygon got when it was snapped or trimmed.
    """
    tolerance = _SAME_DEGREES if layer.crs().isGeographic() else _SAME
    for feature in features:
        if QgsProject.instance().topologicalEditing():
            layer.addTopologicalPoints(feature.geometry())
            continue
        # A vertex added to an edge moves it by a rounding error, perhaps away from another vertex.
        rounds = 0
        while rounds < _MOST_ROUNDS and _add_border_ends(layer, feature, tolerance):
            rounds += 1


def _add_border_ends(layer: QgsVectorLayer, feature: QgsFeature, tolerance: float) -> bool:
    """Add the ends of borders to the neighbours, and return whether any were missing."""
    geometry = feature.geometry()
    outline, is_changed = from_qgs(geometry), False
    around = geometry.boundingBox()
    # The outline may lie beside its neighbours.
    around.grow(tolerance)
    for other in list(layer.getFeatures(QgsFeatureRequest().setFilterRect(around))):
        if other.id() == feature.id() or not other.hasGeometry():
            continue
        shared = other.geometry()
        ends = border_ends(outline, from_qgs(shared), tolerance)
        for x, y in ends:
            vertex, number, _ = vertex_on(shared, x, y)
            shared.insertVertex(vertex, number)
        is_changed |= bool(ends) and bool(layer.changeGeometry(other.id(), shared))
    return is_changed
