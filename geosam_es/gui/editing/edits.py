"""Polygons go into layers here: through QGIS's own feature creation and edit buffer, in one undo step.

Nothing is ever committed: saving the layer's edits is the user's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsFieldConstraints,
    QgsGeometry,
    QgsProject,
    QgsVectorDataProvider,
    QgsVectorLayer,
    QgsVectorLayerUtils,
    QgsWkbTypes,
)
from qgis.PyQt import sip

from ...errors import EditError
from ...qgis_support.messages import tr
from .layer_geometry import AcceptOptions, fit_to_layer, layer_geometries
from .provenance import Provenance, keep_beside, provenance_values
from .target_layer import create_target_layer

__all__ = [
    "AcceptOptions",
    "accept_polygon",
    "check_target",
    "create_target_layer",
    "replace_polygon",
]

FormOpener = Callable[[QgsFeature], bool]


def check_target(layer: QgsVectorLayer | None) -> QgsVectorLayer:
    """Return the layer if polygons can be added to it.

    Raises
    ------
    EditError
        If it is gone, holds no polygons, has no CRS or cannot be edited.
    """
    other = tr("choose another target layer")
    if layer is None:
        raise EditError(tr("There is no target layer"), tr("choose a polygon layer, or make a new one"))
    if sip.isdeleted(layer):
        raise EditError(tr("The target layer is no longer there"), other)
    name = layer.name()
    if not layer.isValid():
        raise EditError(tr("The data of {name} cannot be reached").format(name=name), other)
    if layer.geometryType() != QgsWkbTypes.PolygonGeometry:
        raise EditError(tr("{name} is not a polygon layer").format(name=name), other)
    if not layer.crs().isValid():
        raise EditError(tr("{name} has no CRS").format(name=name), tr("set it in the properties of the layer"))
    if layer.readOnly() or not layer.supportsEditing():
        raise EditError(tr("{name} is read-only").format(name=name), other)
    return layer


def accept_polygon(
    layer: QgsVectorLayer,
    geometry: QgsGeometry,
    crs: QgsCoordinateReferenceSystem,
    attributes: Mapping[str, Any],
    provenance: Provenance | None,
    options: AcceptOptions,
    form_opener: FormOpener | None = None,
) -> int | None:
    """Add a polygon to a layer, in one undo step and without committing.

    In a layer of single polygons every part becomes a feature of its own, all in the same undo step.

    Parameters
    ----------
    layer : QgsVectorLayer
        Editing is started where it is not on.
    geometry : QgsGeometry
    crs : QgsCoordinateReferenceSystem
        Of the geometry.
    attributes : mapping of str to value
        By field name. Default values fill in the rest.
    provenance : Provenance, optional
        Written where the layer has fields for it and ``attributes`` say nothing else.
    options : AcceptOptions
    form_opener : callable, optional
        Shows the attribute form of a feature in the layer's edit buffer, as ``iface.openFeatureForm(layer, feature)``
        does, and returns False if the user cancels it.

    Returns
    -------
    int or None
        Id of the new feature, of the largest part where there are several; None if the user cancelled the form.

    Raises
    ------
    EditError
        If the layer cannot take it. The layer is as it was then.
    """
    check_target(layer)
    if not layer.dataProvider().capabilities() & QgsVectorDataProvider.AddFeatures:
        raise EditError(tr("{name} takes no new polygons").format(name=layer.name()), tr("choose another target layer"))
    geometries = layer_geometries(layer, fit_to_layer(layer, geometry, crs, options))
    values = _values(layer, attributes, provenance)
    feature = _new_feature(layer, geometries[0], values)
    opener = form_opener if options.open_form else None
    if opener is None:
        _check_constraints(layer, feature)
    _start_editing(layer)
    with _edit_command(layer, tr("Add polygon")) as command:
        _add(layer, feature)
        if opener is not None:
            wanted = opener(feature)
            check_target(layer)
            if not wanted:
                command.cancel()
                return None
            shown = layer.getFeature(feature.id())
            _check_constraints(layer, shown)
            values = dict(enumerate(shown.attributes()))
        others = [_add(layer, _new_feature(layer, part, values)) for part in geometries[1:]]
        _share_vertices(layer, geometries)
    _keep(layer, [feature, *others], provenance, options)
    layer.triggerRepaint()
    return int(feature.id())


def replace_polygon(
    layer: QgsVectorLayer,
    feature_id: int,
    geometry: QgsGeometry,
    crs: QgsCoordinateReferenceSystem,
    provenance: Provenance | None,
    options: AcceptOptions,
) -> None:
    """Give a feature another geometry and provenance, in one undo step and without committing.

    In a layer of single polygons the feature keeps the largest part, and the others become new features with the same
    attributes.

    Raises
    ------
    EditError
        If there is no such feature any more, or the layer cannot take the geometry. The layer is as it was then.
    """
    check_target(layer)
    feature = layer.getFeature(feature_id)
    if not feature.isValid():
        raise EditError(tr("The polygon is no longer in {name}").format(name=layer.name()), tr("draw it anew"))
    if not layer.dataProvider().capabilities() & QgsVectorDataProvider.ChangeGeometries:
        problem = tr("{name} does not let geometries be changed").format(name=layer.name())
        raise EditError(problem, tr("choose another target layer"))
    geometries = layer_geometries(layer, fit_to_layer(layer, geometry, crs, options, skip=feature_id))
    values = _values(layer, {}, provenance)
    _start_editing(layer)
    with _edit_command(layer, tr("Refine polygon")):
        if not layer.changeGeometry(feature_id, geometries[0]):
            raise _refused(layer)
        for index, value in values.items():
            if not layer.changeAttributeValue(feature_id, index, value):
                raise _refused(layer)
        changed = layer.getFeature(feature_id)
        attributes = dict(enumerate(changed.attributes()))
        others = [_add(layer, _new_feature(layer, part, attributes)) for part in geometries[1:]]
        _share_vertices(layer, geometries)
    _keep(layer, [changed, *others], provenance, options)
    layer.triggerRepaint()


def _values(layer: QgsVectorLayer, attributes: Mapping[str, Any], provenance: Provenance | None) -> dict[int, Any]:
    """Return attributes by field index, each in the type of its field."""
    fields = layer.fields()
    values = provenance_values(fields, provenance) if provenance is not None else {}
    for name, value in attributes.items():
        index = fields.lookupField(name)
        if index < 0:
            problem = tr("{layer} has no field {field}").format(layer=layer.name(), field=name)
            raise EditError(problem, tr("choose the class field again"))
        try:
            values[index] = fields.at(index).convertCompatible(value)
        except ValueError as error:
            problem = tr("The field {field} cannot hold the value {value}").format(field=name, value=value)
            raise EditError(problem, tr("choose another class or another field")) from error
    return values


def _check_constraints(layer: QgsVectorLayer, feature: QgsFeature) -> None:
    """Refuse what QGIS's own form would not let through either."""
    strength = QgsFieldConstraints.ConstraintStrengthHard
    for index, field in enumerate(layer.fields()):
        fits, errors = QgsVectorLayerUtils.validateAttribute(layer, feature, index, strength)
        if not fits:
            problem = tr("{layer} does not take this value of {field}: {reason}")
            raise EditError(
                problem.format(layer=layer.name(), field=field.displayName(), reason="; ".join(errors)),
                tr("choose a class, set a default value, or let the form be opened"),
            )


def _start_editing(layer: QgsVectorLayer) -> None:
    if not layer.isEditable() and not layer.startEditing():
        problem = tr("{name} cannot be edited").format(name=layer.name())
        raise EditError(problem, tr("check that its file can be written and that nobody else holds it"))


class _Command:
    """An edit command that can be taken back while it is open."""

    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        """Leave nothing of it behind."""
        self.cancelled = True


@contextmanager
def _edit_command(layer: QgsVectorLayer, text: str) -> Iterator[_Command]:
    """Make one undo step of everything inside; after an error or a cancel the layer is as before."""
    command = _Command()
    # Of earlier edits; what is there later is about this one.
    layer.dataProvider().clearErrors()
    layer.beginEditCommand(text)
    try:
        yield command
    except BaseException:
        # The form lets other things happen meanwhile, such as the removal of the layer.
        if not sip.isdeleted(layer):
            layer.destroyEditCommand()
        raise
    if command.cancelled:
        layer.destroyEditCommand()
    else:
        layer.endEditCommand()


def _new_feature(layer: QgsVectorLayer, geometry: QgsGeometry, values: Mapping[int, Any]) -> QgsFeature:
    """Return a feature with defaults for what is not given, and values of its own where they must be unique."""
    return QgsVectorLayerUtils.createFeature(layer, geometry, dict(values), layer.createExpressionContext())


def _add(layer: QgsVectorLayer, feature: QgsFeature) -> QgsFeature:
    if not layer.addFeature(feature):
        raise _refused(layer)
    return feature


def _refused(layer: QgsVectorLayer) -> EditError:
    """Return what to raise; in a transaction group it is the database that refuses, at once, and says why."""
    reasons = layer.dataProvider().errors()
    if not reasons:
        return EditError(tr("{name} did not take the polygon").format(name=layer.name()), tr("see QGIS's log"))
    problem = tr("{name} did not take the polygon: {reason}")
    return EditError(
        problem.format(name=layer.name(), reason=reasons[-1].partition("\n")[0]),
        tr("give its fields values that the database takes, or choose another target layer"),
    )


def _keep(
    layer: QgsVectorLayer, features: list[QgsFeature], provenance: Provenance | None, options: AcceptOptions
) -> None:
    if provenance is not None and options.provenance_table:
        for feature in features:
            keep_beside(layer, feature.id(), provenance)


def _share_vertices(layer: QgsVectorLayer, geometries: list[QgsGeometry]) -> None:
    """Where the project edits topologically, give neighbours the vertices that lie on their borders, as QGIS does."""
    if QgsProject.instance().topologicalEditing():
        for geometry in geometries:
            layer.addTopologicalPoints(geometry)
