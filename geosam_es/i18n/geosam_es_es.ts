<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE TS>
<TS version="2.1" language="es" sourcelanguage="en">
  <context>
    <name>GeoSAM-ES</name>
    <message>
      <source>There is no polygon to split</source>
      <translation>No hay ningún polígono que dividir</translation>
    </message>
    <message>
      <source>choose fill or carve, or draw inside a polygon</source>
      <translation>elegir Rellenar o Recortar a los vecinos, o dibujar dentro de un polígono</translation>
    </message>
    <message>
      <source>Other polygons cover the whole polygon</source>
      <translation>Otros polígonos cubren todo el polígono</translation>
    </message>
    <message>
      <source>choose carve or split, or change the other polygons</source>
      <translation>elegir Recortar a los vecinos o Dividir, o modificar los otros polígonos</translation>
    </message>
    <message>
      <source>Nothing is left of the polygon that would be split</source>
      <translation>Del polígono que se dividiría no quedaría nada</translation>
    </message>
    <message>
      <source>change its class, or choose carve</source>
      <translation>cambiar su clase o elegir Recortar a los vecinos</translation>
    </message>
    <message>
      <source>turn on Neighbours follow, or draw another outline</source>
      <translation>activar Mover bordes comunes o dibujar otro contorno</translation>
    </message>
    <message>
      <source>The line does not cut the polygon in two</source>
      <translation>La línea no divide el polígono en dos</translation>
    </message>
    <message>
      <source>begin and end it outside the polygon</source>
      <translation>empezarla y terminarla fuera del polígono</translation>
    </message>
    <message>
      <source>The polygons are {distance} m apart</source>
      <translation>Los polígonos están a {distance} m uno de otro</translation>
    </message>
    <message>
      <source>merge polygons with a common border</source>
      <translation>combinar polígonos con un borde común</translation>
    </message>
    <message>
      <source>Simplifying a coverage needs shapely 2.1</source>
      <translation>Para simplificar una cobertura hace falta shapely 2.1</translation>
    </message>
    <message>
      <source>update shapely, or do not simplify</source>
      <translation>actualizar shapely o no simplificar</translation>
    </message>
    <message>
      <source>give it to the neighbour with the longest border</source>
      <translation>darlo al vecino con el borde común más largo</translation>
    </message>
    <message>
      <source>join it to the neighbour with the longest border</source>
      <translation>unirlo al vecino con el borde común más largo</translation>
    </message>
    <message>
      <source>Invalid polygon</source>
      <translation>Polígono no válido</translation>
    </message>
    <message>
      <source>repair the polygon</source>
      <translation>reparar el polígono</translation>
    </message>
    <message>
      <source>Overlap</source>
      <translation>Solape</translation>
    </message>
    <message>
      <source>leave it to the smallest of the polygons</source>
      <translation>dejarlo en el polígono más pequeño</translation>
    </message>
    <message>
      <source>Gap</source>
      <translation>Hueco</translation>
    </message>
    <message>
      <source>Border with different vertices</source>
      <translation>Borde con vértices distintos</translation>
    </message>
    <message>
      <source>give both sides the same vertices</source>
      <translation>poner los mismos vértices a los dos lados</translation>
    </message>
    <message>
      <source>Sliver</source>
      <translation>Astilla</translation>
    </message>
    <message>
      <source>Below the minimum area</source>
      <translation>Menor que la superficie mínima</translation>
    </message>
    <message>
      <source>Neighbours of the same class</source>
      <translation>Vecinos de la misma clase</translation>
    </message>
    <message>
      <source>merge the polygons</source>
      <translation>combinar los polígonos</translation>
    </message>
    <message>
      <source>Large gap</source>
      <translation>Hueco grande</translation>
    </message>
    <message>
      <source>fill it with a polygon of its own, or leave it</source>
      <translation>rellenarlo con un polígono propio o dejarlo</translation>
    </message>
    <message>
      <source>The neighbouring polygons cannot be given common vertices</source>
      <translation>No se pueden poner vértices comunes en los polígonos vecinos</translation>
    </message>
    <message>
      <source>correct them first with Check coverage</source>
      <translation>corregirlos antes con Comprobar cobertura</translation>
    </message>
    <message>
      <source>A part would cover {area} m², less than the minimum of {limit} m²</source>
      <translation>Una parte ocuparía {area} m², menos que el mínimo de {limit} m²</translation>
    </message>
    <message>
      <source>lower the minimum area, or draw it larger</source>
      <translation>reducir la superficie mínima o dibujarla más grande</translation>
    </message>
    <message>
      <source>The object has no positive point and no box</source>
      <translation>El objeto no tiene ningún punto dentro ni recuadro</translation>
    </message>
    <message>
      <source>add one of them</source>
      <translation>añadir un punto o un recuadro</translation>
    </message>
    <message>
      <source>The prompts kept with this polygon cannot be read</source>
      <translation>No se pueden leer las indicaciones guardadas con este polígono</translation>
    </message>
    <message>
      <source>start again with a click</source>
      <translation>empezar de nuevo con un clic</translation>
    </message>
    <message>
      <source>--bands needs one band or three, not {count}</source>
      <translation>--bands necesita una banda o tres, no {count}</translation>
    </message>
    <message>
      <source>write them as in 4,1,2</source>
      <translation>escribirlas así: 4,1,2</translation>
    </message>
    <message>
      <source>There is no band {band} in {path}, which has {count} band(s)</source>
      <translation>No hay banda {band} en {path}, que tiene {count} banda(s)</translation>
    </message>
    <message>
      <source>correct --bands</source>
      <translation>corregir --bands</translation>
    </message>
    <message>
      <source>{path} has complex values, which cannot be encoded</source>
      <translation>{path} tiene valores complejos y no se puede preparar</translation>
    </message>
    <message>
      <source>compute an amplitude image first</source>
      <translation>calcular antes una imagen de amplitud</translation>
    </message>
    <message>
      <source>{path} refers to {source}, which does not exist</source>
      <translation>{path} hace referencia a {source}, que no existe</translation>
    </message>
    <message>
      <source>restore that file, or make the mosaic again without it</source>
      <translation>recuperar ese archivo, o volver a hacer el mosaico sin él</translation>
    </message>
    <message>
      <source>{path} refers to {source}, which GDAL cannot read</source>
      <translation>{path} hace referencia a {source}, que GDAL no puede leer</translation>
    </message>
    <message>
      <source>copy or download that file again, or make the mosaic again without it</source>
      <translation>copiar o descargar de nuevo ese archivo, o volver a hacer el mosaico sin él</translation>
    </message>
    <message>
      <source>{path} refers to {source}, which now has another size</source>
      <translation>{path} hace referencia a {source}, que ahora tiene otro tamaño</translation>
    </message>
    <message>
      <source>make the mosaic again</source>
      <translation>volver a hacer el mosaico</translation>
    </message>
    <message>
      <source>{crs}, the CRS of {path}, is not a CRS for maps</source>
      <translation>{crs}, el SRC de {path}, no es un SRC para mapas</translation>
    </message>
    <message>
      <source>give the true CRS with --crs or --set-crs; in QGIS, set the CRS of the layer</source>
      <translation>indicar el SRC verdadero con --crs o --set-crs; en QGIS, asignar el SRC de la capa</translation>
    </message>
    <message>
      <source>{path} begins at {place}, which is not in degrees, but the CRS {crs} is</source>
      <translation>{path} empieza en {place}, que no está en grados, pero el SRC {crs} sí</translation>
    </message>
    <message>
      <source>{path} begins at {place}, which is in degrees, but the CRS {crs} is not</source>
      <translation>{path} empieza en {place}, que está en grados, pero el SRC {crs} no</translation>
    </message>
    <message>
      <source>{path} begins at {place}, which is no place in the CRS {crs}</source>
      <translation>{path} empieza en {place}, que no es un lugar del SRC {crs}</translation>
    </message>
    <message>
      <source>--overlap {overlap} is out of range ({reason})</source>
      <translation>--overlap {overlap} está fuera del intervalo admitido ({reason})</translation>
    </message>
    <message>
      <source>use 256</source>
      <translation>usar 256</translation>
    </message>
    <message>
      <source>{path} has no coordinate reference system</source>
      <translation>{path} no tiene sistema de referencia de coordenadas</translation>
    </message>
    <message>
      <source>set it with --crs EPSG:25830 or the like; in QGIS, set the CRS of the layer</source>
      <translation>indicarlo con --crs EPSG:25830 o similar; en QGIS, asignar el SRC de la capa</translation>
    </message>
    <message>
      <source>--crs {crs} is not a coordinate reference system</source>
      <translation>--crs {crs} no es un sistema de referencia de coordenadas</translation>
    </message>
    <message>
      <source>use a code such as EPSG:25830</source>
      <translation>usar un código como EPSG:25830</translation>
    </message>
    <message>
      <source>--nodata {nodata:g} is not a valid value of {path}, which is {dtype}</source>
      <translation>--nodata {nodata:g} no es un valor válido para {path}, que es {dtype}</translation>
    </message>
    <message>
      <source>choose a value of that type</source>
      <translation>elegir un valor de ese tipo</translation>
    </message>
    <message>
      <source>There is not enough memory to read {path}</source>
      <translation>No hay memoria suficiente para leer {path}</translation>
    </message>
    <message>
      <source>close other programs, and try again</source>
      <translation>cerrar otros programas y volver a intentarlo</translation>
    </message>
    <message>
      <source>{path}, or a file that it refers to, is damaged: its pixels at {col},{row} cannot be read</source>
      <translation>{path}, o un archivo al que hace referencia, está dañado: no se pueden leer los píxeles en {col},{row}</translation>
    </message>
    <message>
      <source>{path} is truncated or damaged: its pixels at {col},{row} cannot be read</source>
      <translation>{path} está truncado o dañado: no se pueden leer los píxeles en {col},{row}</translation>
    </message>
    <message>
      <source>copy or download it again</source>
      <translation>copiarlo o descargarlo de nuevo</translation>
    </message>
    <message>
      <source>{path} has no bands</source>
      <translation>{path} no tiene bandas</translation>
    </message>
    <message>
      <source>name an image</source>
      <translation>indicar una imagen</translation>
    </message>
    <message>
      <source>{path} contains {count} rasters</source>
      <translation>{path} contiene {count} rásteres</translation>
    </message>
    <message>
      <source>name one of them: {names}</source>
      <translation>indicar uno de ellos: {names}</translation>
    </message>
    <message>
      <source>{path} has no geotransform, so its position on the map is unknown</source>
      <translation>{path} no está georreferenciado, así que se desconoce su posición en el mapa</translation>
    </message>
    <message>
      <source>warp it first with: {command}</source>
      <translation>rectificarlo antes con: {command}</translation>
    </message>
    <message>
      <source>georeference it in QGIS</source>
      <translation>georreferenciarlo en QGIS</translation>
    </message>
    <message>
      <source>{path} has a geotransform that places all pixels on one line, or beyond any map</source>
      <translation>{path} tiene una georreferenciación que coloca todos los píxeles en una línea o fuera de cualquier mapa</translation>
    </message>
    <message>
      <source>georeference it again in QGIS</source>
      <translation>georreferenciarlo de nuevo en QGIS</translation>
    </message>
    <message>
      <source>{path} is {dtype}, which needs a stretch</source>
      <translation>{path} es de tipo {dtype} y necesita un realce de contraste</translation>
    </message>
    <message>
      <source>omit --stretch none</source>
      <translation>quitar --stretch none</translation>
    </message>
    <message>
      <source>--stretch {option} is not valid</source>
      <translation>--stretch {option} no es válido</translation>
    </message>
    <message>
      <source>use auto, none, two percentiles as in 2,98 or two values as in 0:4000</source>
      <translation>usar auto, none, dos percentiles como 2,98 o dos valores como 0:4000</translation>
    </message>
    <message>
      <source>{path} has no pixels with data</source>
      <translation>{path} no tiene píxeles con datos</translation>
    </message>
    <message>
      <source>check its nodata value, or set --nodata</source>
      <translation>comprobar su valor sin datos o indicarlo con --nodata</translation>
    </message>
    <message>
      <source>The name of {path} is not valid UTF-8, so GDAL cannot open it</source>
      <translation>El nombre de {path} no es UTF-8 válido y GDAL no puede abrirlo</translation>
    </message>
    <message>
      <source>rename the file</source>
      <translation>cambiar el nombre del archivo</translation>
    </message>
    <message>
      <source>{path} is a link to a file that does not exist</source>
      <translation>{path} es un enlace a un archivo que no existe</translation>
    </message>
    <message>
      <source>correct the link</source>
      <translation>corregir el enlace</translation>
    </message>
    <message>
      <source>{path} does not exist</source>
      <translation>{path} no existe</translation>
    </message>
    <message>
      <source>check the path</source>
      <translation>comprobar la ruta</translation>
    </message>
    <message>
      <source>{path} cannot be opened ({reason})</source>
      <translation>No se puede abrir {path} ({reason})</translation>
    </message>
    <message>
      <source>{path} is a pipe, a device or a socket, not a file</source>
      <translation>{path} es una tubería, un dispositivo o un socket, no un archivo</translation>
    </message>
    <message>
      <source>save the image to a file first</source>
      <translation>guardar antes la imagen en un archivo</translation>
    </message>
    <message>
      <source>{path} cannot be read</source>
      <translation>No se puede leer {path}</translation>
    </message>
    <message>
      <source>ask for permission to read it</source>
      <translation>pedir permiso para leerlo</translation>
    </message>
    <message>
      <source>{path} is a folder without images</source>
      <translation>{path} es una carpeta sin imágenes</translation>
    </message>
    <message>
      <source>{path} is in the format {format}, and this GDAL has no driver for it</source>
      <translation>{path} está en formato {format}, y este GDAL no tiene controlador para leerlo</translation>
    </message>
    <message>
      <source>convert it with a GDAL that has one; QGIS for Windows reads ECW and MrSID (for 8-bit images COMPRESS=JPEG makes a smaller file): {command}</source>
      <translation>convertirlo con un GDAL que lo tenga; QGIS para Windows lee ECW y MrSID (con COMPRESS=JPEG, las imágenes de 8 bits ocupan menos): {command}</translation>
    </message>
    <message>
      <source>{path} is not a raster that GDAL can read</source>
      <translation>{path} no es un ráster que GDAL pueda leer</translation>
    </message>
    <message>
      <source>it is empty; copy or download it again</source>
      <translation>está vacío; copiarlo o descargarlo de nuevo</translation>
    </message>
    <message>
      <source>it is a pointer of Git LFS; get the image with git lfs pull</source>
      <translation>es un puntero de Git LFS; obtener la imagen con git lfs pull</translation>
    </message>
    <message>
      <source>it is a web page; download the image itself</source>
      <translation>es una página web; descargar la propia imagen</translation>
    </message>
    <message>
      <source>it is a document; name an image</source>
      <translation>es un documento; indicar una imagen</translation>
    </message>
    <message>
      <source>it has no raster; name an image</source>
      <translation>no contiene ningún ráster; indicar una imagen</translation>
    </message>
    <message>
      <source>it is a text file; name an image</source>
      <translation>es un archivo de texto; indicar una imagen</translation>
    </message>
    <message>
      <source>check the file, or copy it again</source>
      <translation>comprobar el archivo o copiarlo de nuevo</translation>
    </message>
    <message>
      <source>check the address and the connection, or download it first</source>
      <translation>comprobar la dirección y la conexión, o descargarlo antes</translation>
    </message>
    <message>
      <source>{path} refers to a file that does not exist</source>
      <translation>{path} hace referencia a un archivo que no existe</translation>
    </message>
    <message>
      <source>check the name; this lists the names in the file: {command}</source>
      <translation>comprobar el nombre; esta orden muestra los nombres que hay en el archivo: {command}</translation>
    </message>
    <message>
      <source>GDAL finds no single image in {path}</source>
      <translation>GDAL no encuentra una única imagen en {path}</translation>
    </message>
    <message>
      <source>name one of its files, such as {name}</source>
      <translation>indicar uno de sus archivos, como {name}</translation>
    </message>
    <message>
      <source>{store} was made with {key} = {stored!r}, not {wanted!r}</source>
      <translation>{store} se hizo con {key} = {stored!r}, no {wanted!r}</translation>
    </message>
    <message>
      <source>There is no image here: {name} has no data at this place</source>
      <translation>Aquí no hay imagen: {name} no tiene datos en este lugar</translation>
    </message>
    <message>
      <source>click where you see the image</source>
      <translation>hacer clic donde se ve la imagen</translation>
    </message>
    <message>
      <source>The polygon being drawn is on {first}, and this place is on {second}</source>
      <translation>El polígono que se está dibujando está en {first}, y este lugar, en {second}</translation>
    </message>
    <message>
      <source>accept the polygon or discard it, then click here</source>
      <translation>aceptar el polígono o descartarlo, y después hacer clic aquí</translation>
    </message>
    <message>
      <source>The prepared image of {name} was deleted or replaced</source>
      <translation>La imagen preparada de {name} se ha borrado o sustituido</translation>
    </message>
    <message>
      <source>accept the polygon or discard it, then click again</source>
      <translation>aceptar el polígono o descartarlo, y después volver a hacer clic</translation>
    </message>
    <message>
      <source>opening</source>
      <translation>abriendo</translation>
    </message>
    <message>
      <source>ready</source>
      <translation>lista</translation>
    </message>
    <message>
      <source>cannot be used</source>
      <translation>no se puede usar</translation>
    </message>
    <message>
      <source>fetching images …</source>
      <translation>descargando imágenes…</translation>
    </message>
    <message>
      <source>online</source>
      <translation>en línea</translation>
    </message>
    <message>
      <source>prepares as you click</source>
      <translation>se prepara al hacer clic</translation>
    </message>
    <message>
      <source>refined polygon {label} in {layer}</source>
      <translation>refinado del polígono {label} en {layer}</translation>
    </message>
    <message>
      <source>polygon {label} in {layer}</source>
      <translation>polígono {label} en {layer}</translation>
    </message>
    <message>
      <source>Add polygon</source>
      <translation>Añadir polígono</translation>
    </message>
    <message>
      <source>Refine polygon</source>
      <translation>Refinar polígono</translation>
    </message>
    <message>
      <source>The polygon cannot be fitted to the layer ({reason})</source>
      <translation>El polígono no se puede ajustar a la capa ({reason})</translation>
    </message>
    <message>
      <source>turn off the options under Shape and borders, or correct the polygons around it</source>
      <translation>desactivar las opciones de Forma y bordes o corregir los polígonos de alrededor</translation>
    </message>
    <message>
      <source>{name} is not a polygon layer with a CRS</source>
      <translation>{name} no es una capa de polígonos con SRC</translation>
    </message>
    <message>
      <source>choose another layer to review</source>
      <translation>elegir otra capa para revisar</translation>
    </message>
    <message>
      <source>The decisions of the review cannot be written to {name}</source>
      <translation>Las decisiones de la revisión no se pueden escribir en {name}</translation>
    </message>
    <message>
      <source>save the project, which keeps them</source>
      <translation>guardar el proyecto, que las conserva</translation>
    </message>
    <message>
      <source>The layer was changed meanwhile</source>
      <translation>La capa ha cambiado mientras tanto</translation>
    </message>
    <message>
      <source>The polygon is no longer in the layer</source>
      <translation>El polígono ya no está en la capa</translation>
    </message>
    <message>
      <source>choose another one</source>
      <translation>elegir otro</translation>
    </message>
    <message>
      <source>mend it again</source>
      <translation>volver a corregirlo</translation>
    </message>
    <message>
      <source>Enter: {remedy}
N: next · Shift+N: previous · Esc: leave</source>
      <translation>Intro: {remedy}
N: siguiente · Mayús+N: anterior · Esc: salir</translation>
    </message>
    <message>
      <source>Mend: {finding}</source>
      <translation>Corregir: {finding}</translation>
    </message>
    <message>
      <source>There is nothing to mend here, or no neighbour to mend it with</source>
      <translation>Aquí no hay nada que corregir, o no hay ningún vecino con el que corregirlo</translation>
    </message>
    <message>
      <source>press N for the next one, or correct the polygons by hand</source>
      <translation>pulsar N para ir a la siguiente o corregir los polígonos a mano</translation>
    </message>
    <message>
      <source>mending of {label} in {layer}</source>
      <translation>corrección de {label} en {layer}</translation>
    </message>
    <message>
      <source>The filter of {layer} hides polygons from coverage mode</source>
      <translation>El filtro de {layer} oculta polígonos al modo de cobertura</translation>
    </message>
    <message>
      <source>remove the filter, or new polygons may overlap hidden ones</source>
      <translation>quitar el filtro, o los polígonos nuevos podrían solaparse con los ocultos</translation>
    </message>
    <message>
      <source>Findings in {layer}: {count}. N: go to the first</source>
      <translation>Incidencias en {layer}: {count}. N: ir a la primera</translation>
    </message>
    <message>
      <source>No findings in {layer}</source>
      <translation>Ninguna incidencia en {layer}</translation>
    </message>
    <message>
      <source>Large gaps that may be intended: {large}</source>
      <translation>Huecos grandes que pueden ser intencionados: {large}</translation>
    </message>
    <message>
      <source>The polygons that the filter of the layer hides were not checked</source>
      <translation>No se han comprobado los polígonos que oculta el filtro de la capa</translation>
    </message>
    <message>
      <source>Checking {layer}</source>
      <translation>Comprobando {layer}</translation>
    </message>
    <message>
      <source>This cannot be mended ({reason})</source>
      <translation>Esto no se puede corregir ({reason})</translation>
    </message>
    <message>
      <source>correct the polygons with the vertex tool of QGIS</source>
      <translation>corregir los polígonos con la herramienta de vértices de QGIS</translation>
    </message>
    <message>
      <source>choose another target layer</source>
      <translation>elegir otra capa de destino</translation>
    </message>
    <message>
      <source>The target layer was removed</source>
      <translation>Se ha quitado la capa de destino</translation>
    </message>
    <message>
      <source>The data source of {name} is not available</source>
      <translation>La fuente de datos de {name} no está disponible</translation>
    </message>
    <message>
      <source>{name} is not a polygon layer</source>
      <translation>{name} no es una capa de polígonos</translation>
    </message>
    <message>
      <source>{name} has no CRS</source>
      <translation>{name} no tiene SRC</translation>
    </message>
    <message>
      <source>set it in the layer properties</source>
      <translation>asignarlo en las propiedades de la capa</translation>
    </message>
    <message>
      <source>{name} is read-only</source>
      <translation>{name} es de solo lectura</translation>
    </message>
    <message>
      <source>There is no target layer</source>
      <translation>No hay capa de destino</translation>
    </message>
    <message>
      <source>choose a polygon layer, or make a new one</source>
      <translation>elegir una capa de polígonos o crear una nueva</translation>
    </message>
    <message>
      <source>No polygons can be added to {name}</source>
      <translation>No se pueden añadir polígonos a {name}</translation>
    </message>
    <message>
      <source>The geometries of {name} cannot be changed</source>
      <translation>No se pueden modificar las geometrías de {name}</translation>
    </message>
    <message>
      <source>No polygons of {name} can be deleted</source>
      <translation>No se pueden borrar polígonos de {name}</translation>
    </message>
    <message>
      <source>The polygon is no longer in {name}</source>
      <translation>El polígono ya no está en {name}</translation>
    </message>
    <message>
      <source>draw it again</source>
      <translation>dibujarlo de nuevo</translation>
    </message>
    <message>
      <source>{layer} has no field {field}</source>
      <translation>{layer} no tiene el campo {field}</translation>
    </message>
    <message>
      <source>choose another class field</source>
      <translation>elegir otro campo de clase</translation>
    </message>
    <message>
      <source>The field {field} cannot hold the value {value}</source>
      <translation>El campo {field} no admite el valor {value}</translation>
    </message>
    <message>
      <source>choose another class or another field</source>
      <translation>elegir otra clase u otro campo</translation>
    </message>
    <message>
      <source>The value of the field {field} of {layer} breaks a constraint: {reason}</source>
      <translation>El valor del campo {field} de {layer} incumple una restricción: {reason}</translation>
    </message>
    <message>
      <source>choose a class, set a default value, or turn on Open the form</source>
      <translation>elegir una clase, definir un valor predeterminado o activar Abrir el formulario</translation>
    </message>
    <message>
      <source>{name} cannot be edited</source>
      <translation>{name} no se puede editar</translation>
    </message>
    <message>
      <source>check that its file is writable and not open in another program</source>
      <translation>comprobar que se puede escribir en su archivo y que no está abierto en otro programa</translation>
    </message>
    <message>
      <source>The polygon was not written to {name}</source>
      <translation>No se ha podido escribir el polígono en {name}</translation>
    </message>
    <message>
      <source>see the log of QGIS</source>
      <translation>consultar el registro de QGIS</translation>
    </message>
    <message>
      <source>The polygon was not written to {name}: {reason}</source>
      <translation>No se ha podido escribir el polígono en {name}: {reason}</translation>
    </message>
    <message>
      <source>correct the values of its fields, or choose another target layer</source>
      <translation>corregir los valores de sus campos o elegir otra capa de destino</translation>
    </message>
    <message>
      <source>Finding similar objects</source>
      <translation>Buscando objetos parecidos</translation>
    </message>
    <message>
      <source>There is no prepared image in view</source>
      <translation>No hay ninguna imagen preparada en la vista</translation>
    </message>
    <message>
      <source>click an object of the image first</source>
      <translation>hacer clic antes en un objeto de la imagen</translation>
    </message>
    <message>
      <source>There is no example to search with</source>
      <translation>No hay ningún ejemplo con el que buscar</translation>
    </message>
    <message>
      <source>select polygons of the target layer, or click an object, and press F again</source>
      <translation>seleccionar polígonos de la capa de destino o hacer clic en un objeto, y pulsar F de nuevo</translation>
    </message>
    <message>
      <source>Similar objects</source>
      <translation>Objetos parecidos</translation>
    </message>
    <message>
      <source>F: keep searching</source>
      <translation>F: seguir buscando</translation>
    </message>
    <message>
      <source>Review</source>
      <translation>Revisión</translation>
    </message>
    <message>
      <source>The raster has no CRS</source>
      <translation>El ráster no tiene SRC</translation>
    </message>
    <message>
      <source>set it in the properties of its layer</source>
      <translation>asignarlo en las propiedades de su capa</translation>
    </message>
    <message>
      <source>There is no polygon to add</source>
      <translation>No hay ningún polígono que añadir</translation>
    </message>
    <message>
      <source>click an object first</source>
      <translation>hacer clic antes en un objeto</translation>
    </message>
    <message>
      <source>Polygons of other layers cover the whole polygon</source>
      <translation>Los polígonos de otras capas cubren todo el polígono</translation>
    </message>
    <message>
      <source>change Avoid Overlap in QGIS's snapping toolbar, or the other polygons</source>
      <translation>cambiar la opción Avoid Overlap (evitar solapes) en la barra de autoensamblado de QGIS o modificar los otros polígonos</translation>
    </message>
    <message>
      <source>Right angles would change the polygon too much</source>
      <translation>La opción Ángulos rectos cambiaría demasiado el polígono</translation>
    </message>
    <message>
      <source>Other polygons of {name} cover the whole polygon</source>
      <translation>Otros polígonos de {name} cubren todo el polígono</translation>
    </message>
    <message>
      <source>turn off No overlaps, or change the other polygons</source>
      <translation>desactivar Sin solapes o modificar los otros polígonos</translation>
    </message>
    <message>
      <source>Snapping to neighbours would change the polygon too much</source>
      <translation>La opción Ajustar a bordes vecinos cambiaría demasiado el polígono</translation>
    </message>
    <message>
      <source>lower the value or turn it off under Shape and borders</source>
      <translation>reducir el valor o desactivar la opción en Forma y bordes</translation>
    </message>
    <message>
      <source>The polygon covers {area} m², less than the minimum of {limit} m²</source>
      <translation>El polígono ocupa {area} m², menos que el mínimo de {limit} m²</translation>
    </message>
    <message>
      <source>lower the minimum area</source>
      <translation>reducir la superficie mínima</translation>
    </message>
    <message>
      <source>Click the polygon to refine. Esc: leave</source>
      <translation>Hacer clic en el polígono que se va a refinar. Esc: salir</translation>
    </message>
    <message>
      <source>{polygon}, now {label}</source>
      <translation>{polygon}, ahora {label}</translation>
    </message>
    <message>
      <source>Click or box: change it · 1 to 9: its class
Enter: write · Delete: delete · Esc: leave</source>
      <translation>Clic o recuadro: cambiarlo · 1 a 9: su clase
Intro: escribir · Supr: borrar · Esc: salir</translation>
    </message>
    <message>
      <source>Refining {polygon}</source>
      <translation>Refinando el {polygon}</translation>
    </message>
    <message>
      <source>The polygon on the map is not written yet</source>
      <translation>El polígono del mapa aún no se ha escrito</translation>
    </message>
    <message>
      <source>accept it with Enter, or discard it with Esc</source>
      <translation>aceptarlo con Intro o descartarlo con Esc</translation>
    </message>
    <message>
      <source>There is no polygon here</source>
      <translation>Aquí no hay ningún polígono</translation>
    </message>
    <message>
      <source>click a polygon of the target layer</source>
      <translation>hacer clic en un polígono de la capa de destino</translation>
    </message>
    <message>
      <source>Delete polygon</source>
      <translation>Borrar polígono</translation>
    </message>
    <message>
      <source>deletion of polygon {label} in {layer}</source>
      <translation>borrado del polígono {label} en {layer}</translation>
    </message>
    <message>
      <source>The feature has no polygon</source>
      <translation>El objeto espacial no tiene ningún polígono</translation>
    </message>
    <message>
      <source>No prepared image is open</source>
      <translation>No hay ninguna imagen preparada abierta</translation>
    </message>
    <message>
      <source>open the one that the polygon was drawn on</source>
      <translation>abrir la imagen sobre la que se dibujó el polígono</translation>
    </message>
    <message>
      <source>This polygon was drawn on {name}</source>
      <translation>Este polígono se dibujó sobre {name}</translation>
    </message>
    <message>
      <source>add that raster to the project, or open its prepared image</source>
      <translation>añadir ese ráster al proyecto o abrir su imagen preparada</translation>
    </message>
    <message>
      <source>Reading {layer}</source>
      <translation>Leyendo {layer}</translation>
    </message>
    <message>
      <source>{left} of {count} polygons to review. N: go to the first</source>
      <translation>Polígonos por revisar: {left} de {count}. N: ir al primero</translation>
    </message>
    <message>
      <source>{lost} of them were accepted before, but the target layer was not saved</source>
      <translation>{lost} de ellos ya se habían aceptado, pero la capa de destino no se guardó</translation>
    </message>
    <message>
      <source>Enter: accept · Delete: reject
1 to 9: class, accept · N: next
Click, brush: correct · Esc: leave</source>
      <translation>Intro: aceptar · Supr: rechazar
1 a 9: aceptar con esa clase · N: siguiente
Clic, pincel: corregir · Esc: salir</translation>
    </message>
    <message>
      <source>rejection of polygon {label} in {layer}</source>
      <translation>rechazo del polígono {label} en {layer}</translation>
    </message>
    <message>
      <source>Accept polygons</source>
      <translation>Aceptar polígonos</translation>
    </message>
    <message>
      <source>None of the polygons can be accepted ({reason})</source>
      <translation>No se puede aceptar ninguno de los polígonos ({reason})</translation>
    </message>
    <message>
      <source>correct them and accept them one by one</source>
      <translation>corregirlos y aceptarlos uno a uno</translation>
    </message>
    <message>
      <source>{count} polygons in {layer}</source>
      <translation>{count} polígonos en {layer}</translation>
    </message>
    <message>
      <source>Accepted: {what}</source>
      <translation>Aceptado: {what}</translation>
    </message>
    <message>
      <source>Left out: {count} ({reason})</source>
      <translation>Quedan fuera: {count} ({reason})</translation>
    </message>
    <message>
      <source>Accepting polygons into {layer}</source>
      <translation>Aceptando polígonos en {layer}</translation>
    </message>
    <message>
      <source>Cancel</source>
      <translation>Cancelar</translation>
    </message>
    <message>
      <source>Cancelled: nothing was accepted</source>
      <translation>Cancelado: no se ha aceptado nada</translation>
    </message>
    <message>
      <source>Accept polygon</source>
      <translation>Aceptar polígono</translation>
    </message>
    <message>
      <source>The polygons under review are in the target layer itself</source>
      <translation>Los polígonos que se revisan están en la propia capa de destino</translation>
    </message>
    <message>
      <source>cut or merge the polygons again</source>
      <translation>volver a cortar o combinar los polígonos</translation>
    </message>
    <message>
      <source>Ctrl+wheel or [ ]: size ({pixels} px)</source>
      <translation>Ctrl+rueda o [ ]: tamaño ({pixels} px)</translation>
    </message>
    <message>
      <source>Drag: add · Shift: take away</source>
      <translation>Arrastrar: añadir · Mayús: quitar</translation>
    </message>
    <message>
      <source>Esc: leave</source>
      <translation>Esc: salir</translation>
    </message>
    <message>
      <source>Drag: take away · Shift: add</source>
      <translation>Arrastrar: quitar · Mayús: añadir</translation>
    </message>
    <message>
      <source>Click or drag a line across the polygon
Enter or right click: cut · Esc: leave</source>
      <translation>Trazar con clics o arrastrando una línea que cruce el polígono
Intro o clic derecho: cortar · Esc: salir</translation>
    </message>
    <message>
      <source>Drag a loop: area · a stroke: points along it
Shift: outside · Esc: leave</source>
      <translation>Arrastrar un lazo: zona · un trazo: puntos a lo largo
Mayús: fuera · Esc: salir</translation>
    </message>
    <message>
      <source>point at a polygon of the target layer</source>
      <translation>señalar un polígono de la capa de destino</translation>
    </message>
    <message>
      <source>press R on one polygon, then M on the other</source>
      <translation>pulsar R sobre un polígono y después M sobre el otro</translation>
    </message>
    <message>
      <source>No polygon is chosen to merge with</source>
      <translation>No se ha elegido el polígono con el que combinar</translation>
    </message>
    <message>
      <source>This is not another polygon of the same layer</source>
      <translation>Este no es otro polígono de la misma capa</translation>
    </message>
    <message>
      <source>point at a neighbour of the first one</source>
      <translation>señalar un vecino del primero</translation>
    </message>
    <message>
      <source>Merge polygons</source>
      <translation>Combinar polígonos</translation>
    </message>
    <message>
      <source>merge with polygon {label} in {layer}</source>
      <translation>combinación con el polígono {label} en {layer}</translation>
    </message>
    <message>
      <source>Cut polygon</source>
      <translation>Cortar polígono</translation>
    </message>
    <message>
      <source>The line crosses no polygon of {layer}</source>
      <translation>La línea no cruza ningún polígono de {layer}</translation>
    </message>
    <message>
      <source>draw it across a polygon, from outside to outside</source>
      <translation>trazarla de lado a lado de un polígono, empezando y terminando fuera</translation>
    </message>
    <message>
      <source>cut of polygon {label} in {layer}</source>
      <translation>corte del polígono {label} en {layer}</translation>
    </message>
    <message>
      <source>cut of {label} polygons in {layer}</source>
      <translation>corte de {label} polígonos en {layer}</translation>
    </message>
    <message>
      <source>{name} has no class field</source>
      <translation>{name} no tiene campo de clase</translation>
    </message>
    <message>
      <source>choose the field that the classes are written to</source>
      <translation>elegir el campo en el que se escriben las clases</translation>
    </message>
    <message>
      <source>The field {field} of {name} has classes of its own, which are kept</source>
      <translation>El campo {field} de {name} ya tiene sus propias clases, que se conservan</translation>
    </message>
    <message>
      <source>choose another class field, or remove its value map and its style</source>
      <translation>elegir otro campo de clase o quitar su mapa de valor y su estilo</translation>
    </message>
    <message>
      <source>{path} is neither a GeoPackage nor a Shapefile</source>
      <translation>{path} no es un GeoPackage ni un Shapefile</translation>
    </message>
    <message>
      <source>use a file name that ends with .gpkg or .shp</source>
      <translation>usar un nombre de archivo que termine en .gpkg o .shp</translation>
    </message>
    <message>
      <source>{name} is not a valid file name on every system</source>
      <translation>{name} no es un nombre de archivo válido en todos los sistemas</translation>
    </message>
    <message>
      <source>choose another file name</source>
      <translation>elegir otro nombre de archivo</translation>
    </message>
    <message>
      <source>{path} already has a layer {name}</source>
      <translation>{path} ya tiene una capa {name}</translation>
    </message>
    <message>
      <source>{path} cannot be written</source>
      <translation>No se puede escribir {path}</translation>
    </message>
    <message>
      <source>check the folder, its permissions and the free disk space</source>
      <translation>comprobar la carpeta, sus permisos y el espacio libre en disco</translation>
    </message>
    <message>
      <source>A new layer needs a CRS</source>
      <translation>Una capa nueva necesita un SRC</translation>
    </message>
    <message>
      <source>set the CRS of the raster in the properties of its layer</source>
      <translation>asignar el SRC del ráster en las propiedades de su capa</translation>
    </message>
    <message>
      <source>Undo: {what}</source>
      <translation>Deshacer: {what}</translation>
    </message>
    <message>
      <source>Undo in {layer}: {edit}</source>
      <translation>Deshacer en {layer}: {edit}</translation>
    </message>
    <message>
      <source>Redo: {what}</source>
      <translation>Rehacer: {what}</translation>
    </message>
    <message>
      <source>Redo in {layer}: {edit}</source>
      <translation>Rehacer en {layer}: {edit}</translation>
    </message>
    <message>
      <source>Undone: {what}</source>
      <translation>Deshecho: {what}</translation>
    </message>
    <message>
      <source>Undone in {layer}: {edit}</source>
      <translation>Deshecho en {layer}: {edit}</translation>
    </message>
    <message>
      <source>Redone: {what}</source>
      <translation>Rehecho: {what}</translation>
    </message>
    <message>
      <source>Redone in {layer}: {edit}</source>
      <translation>Rehecho en {layer}: {edit}</translation>
    </message>
    <message>
      <source>Done: {what}</source>
      <translation>Hecho: {what}</translation>
    </message>
    <message>
      <source>Deleted: {what}</source>
      <translation>Borrado: {what}</translation>
    </message>
    <message>
      <source>box</source>
      <translation>recuadro</translation>
    </message>
    <message>
      <source>point outside</source>
      <translation>punto fuera</translation>
    </message>
    <message>
      <source>point</source>
      <translation>punto</translation>
    </message>
    <message>
      <source>brush stroke</source>
      <translation>pincelada</translation>
    </message>
    <message>
      <source>eraser stroke</source>
      <translation>pasada de goma</translation>
    </message>
    <message>
      <source>cut</source>
      <translation>corte</translation>
    </message>
    <message>
      <source>lasso</source>
      <translation>lazo</translation>
    </message>
    <message>
      <source>scribble</source>
      <translation>trazo</translation>
    </message>
    <message>
      <source>merge</source>
      <translation>combinación</translation>
    </message>
    <message>
      <source>polygon of the layer</source>
      <translation>polígono de la capa</translation>
    </message>
    <message>
      <source>{number} of {count}: {finding}</source>
      <translation>{number} de {count}: {finding}</translation>
    </message>
    <message>
      <source>Redo</source>
      <translation>Rehacer</translation>
    </message>
    <message>
      <source>Undo</source>
      <translation>Deshacer</translation>
    </message>
    <message>
      <source>The view cannot be transformed to the CRS of the raster</source>
      <translation>La vista no se puede transformar al SRC del ráster</translation>
    </message>
    <message>
      <source>zoom to the raster</source>
      <translation>hacer zoom al ráster</translation>
    </message>
    <message>
      <source>Prepared with the model {model} (licence: {licence})</source>
      <translation>Preparada con el modelo {model} (licencia: {licence})</translation>
    </message>
    <message>
      <source>Added to {layer} · Ctrl+Z: undo</source>
      <translation>Añadido a {layer} · Ctrl+Z: deshacer</translation>
    </message>
    <message>
      <source>Replaced in {layer} · Ctrl+Z: undo</source>
      <translation>Sustituido en {layer} · Ctrl+Z: deshacer</translation>
    </message>
    <message>
      <source>New layer</source>
      <translation>Nueva capa</translation>
    </message>
    <message>
      <source>Temporary layer</source>
      <translation>Capa temporal</translation>
    </message>
    <message>
      <source>In memory: save it before you close QGIS</source>
      <translation>En memoria: guardarla antes de cerrar QGIS</translation>
    </message>
    <message>
      <source>show a raster layer and click on it, or open a prepared image in the panel</source>
      <translation>mostrar una capa ráster y hacer clic en ella, o abrir una imagen preparada en el panel</translation>
    </message>
    <message>
      <source>There is nothing to segment here: no raster layer is visible</source>
      <translation>Aquí no hay nada que segmentar: no se ve ninguna capa ráster</translation>
    </message>
    <message>
      <source>Segment by clicking</source>
      <translation>Segmentar haciendo clic</translation>
    </message>
    <message>
      <source>Take back the last prompt</source>
      <translation>Quitar la última indicación</translation>
    </message>
    <message>
      <source>Next candidate: whole, part, sub-part</source>
      <translation>Siguiente alternativa: objeto entero, parte, parte menor</translation>
    </message>
    <message>
      <source>Previous candidate</source>
      <translation>Alternativa anterior</translation>
    </message>
    <message>
      <source>Preview under the pointer</source>
      <translation>Vista previa bajo el cursor</translation>
    </message>
    <message>
      <source>Accept the polygon</source>
      <translation>Aceptar el polígono</translation>
    </message>
    <message>
      <source>Discard the polygon</source>
      <translation>Descartar el polígono</translation>
    </message>
    <message>
      <source>Refine the polygon under the pointer</source>
      <translation>Refinar el polígono bajo el cursor</translation>
    </message>
    <message>
      <source>Delete or reject the polygon</source>
      <translation>Borrar o rechazar el polígono</translation>
    </message>
    <message>
      <source>Brush: add to the polygon</source>
      <translation>Pincel: añadir al polígono</translation>
    </message>
    <message>
      <source>Eraser: take away from the polygon</source>
      <translation>Goma: quitar del polígono</translation>
    </message>
    <message>
      <source>Smaller brush</source>
      <translation>Pincel más pequeño</translation>
    </message>
    <message>
      <source>Larger brush</source>
      <translation>Pincel más grande</translation>
    </message>
    <message>
      <source>Cut a polygon along a line</source>
      <translation>Cortar un polígono por una línea</translation>
    </message>
    <message>
      <source>Lasso or scribble without Alt</source>
      <translation>Lazo o trazo sin Alt</translation>
    </message>
    <message>
      <source>Merge with the polygon under the pointer</source>
      <translation>Combinar con el polígono bajo el cursor</translation>
    </message>
    <message>
      <source>Compare two model variants on each click</source>
      <translation>Comparar dos variantes del modelo en cada clic</translation>
    </message>
    <message>
      <source>Swap the two model variants, to accept the other polygon</source>
      <translation>Intercambiar las dos variantes del modelo para aceptar el otro polígono</translation>
    </message>
    <message>
      <source>Fill, carve or split, in turn</source>
      <translation>Alternar entre rellenar, recortar a los vecinos y dividir</translation>
    </message>
    <message>
      <source>Next in the review or the check</source>
      <translation>Siguiente de la revisión o la comprobación</translation>
    </message>
    <message>
      <source>Previous in the review or the check</source>
      <translation>Anterior de la revisión o la comprobación</translation>
    </message>
    <message>
      <source>Check coverage</source>
      <translation>Comprobar cobertura</translation>
    </message>
    <message>
      <source>Find objects like the selected ones or the proposal</source>
      <translation>Buscar objetos parecidos a los seleccionados o a la propuesta</translation>
    </message>
    <message>
      <source>Choose class {number}</source>
      <translation>Elegir la clase {number}</translation>
    </message>
    <message>
      <source>Choose the suggested class</source>
      <translation>Elegir la clase sugerida</translation>
    </message>
    <message>
      <source>Clear cache</source>
      <translation>Vaciar la caché</translation>
    </message>
    <message>
      <source>Deletes the prepared images in the cache, except those in use. They are prepared again when needed. Model variants that were added are kept.</source>
      <translation>Borra las imágenes preparadas de la caché, salvo las que están en uso. Se vuelven a preparar cuando hacen falta. Las variantes del modelo que se han añadido se conservan.</translation>
    </message>
    <message>
      <source>counting …</source>
      <translation>calculando …</translation>
    </message>
    <message>
      <source>{size} kept: images in use, and model variants</source>
      <translation>Se conservan {size}: imágenes en uso y variantes del modelo</translation>
    </message>
    <message>
      <source>Clearing the cache</source>
      <translation>Vaciando la caché</translation>
    </message>
    <message>
      <source>Counting the cache</source>
      <translation>Calculando el tamaño de la caché</translation>
    </message>
    <message>
      <source>Class</source>
      <translation>Clase</translation>
    </message>
    <message>
      <source>Field that the class is written to</source>
      <translation>Campo en el que se escribe la clase</translation>
    </message>
    <message>
      <source>Load classes from a CSV file with code, name and colour</source>
      <translation>Cargar las clases de un archivo CSV con código, nombre y color</translation>
    </message>
    <message>
      <source>Type to find a class</source>
      <translation>Buscar una clase</translation>
    </message>
    <message>
      <source>Class of the next polygons</source>
      <translation>Clase de los siguientes polígonos</translation>
    </message>
    <message>
      <source>No class chosen</source>
      <translation>Ninguna clase elegida</translation>
    </message>
    <message>
      <source>Not written: choose a class field</source>
      <translation>No se escribe: elegir un campo de clase</translation>
    </message>
    <message>
      <source>Suggested (key 0): {name}</source>
      <translation>Sugerida (tecla 0): {name}</translation>
    </message>
    <message>
      <source>Load classes</source>
      <translation>Cargar clases</translation>
    </message>
    <message>
      <source>Tables (*.csv *.txt *.tsv)</source>
      <translation>Tablas (*.csv *.txt *.tsv)</translation>
    </message>
    <message>
      <source>Several classes</source>
      <translation>Varias clases</translation>
    </message>
    <message>
      <source>Ctrl+click or Shift+click on a class adds it, with a percentage</source>
      <translation>Con Ctrl+clic o Mayús+clic en una clase se añade, con un porcentaje</translation>
    </message>
    <message>
      <source>Field of class {number}</source>
      <translation>Campo de la clase {number}</translation>
    </message>
    <message>
      <source>Field of percentage {number}</source>
      <translation>Campo del porcentaje {number}</translation>
    </message>
    <message>
      <source>Fill: takes free ground</source>
      <translation>Rellenar: solo lo libre</translation>
    </message>
    <message>
      <source>Carve: neighbours give way</source>
      <translation>Recortar a los vecinos</translation>
    </message>
    <message>
      <source>Split: cut out of one polygon</source>
      <translation>Dividir un polígono</translation>
    </message>
    <message>
      <source>Coverage mode</source>
      <translation>Modo de cobertura</translation>
    </message>
    <message>
      <source>Accepted polygons share borders, without overlaps or narrow gaps. Remembered with the layer.</source>
      <translation>Los polígonos aceptados comparten sus bordes, sin solapes ni huecos estrechos. Se recuerda con la capa.</translation>
    </message>
    <message>
      <source>What happens where a new polygon overlaps others (V)</source>
      <translation>Qué se hace donde un polígono nuevo se solapa con otros (V)</translation>
    </message>
    <message>
      <source>Close gaps up to</source>
      <translation>Cerrar huecos hasta</translation>
    </message>
    <message>
      <source>Narrower gaps are closed (in metres)</source>
      <translation>Se cierran los huecos más estrechos entre polígonos (en metros)</translation>
    </message>
    <message>
      <source>Minimum area</source>
      <translation>Superficie mínima</translation>
    </message>
    <message>
      <source>For classes that have none in the class list</source>
      <translation>Para las clases que no tienen la suya en la lista de clases</translation>
    </message>
    <message>
      <source>Large gaps from</source>
      <translation>Huecos grandes desde</translation>
    </message>
    <message>
      <source>Larger enclosed gaps, such as lakes, are not faults</source>
      <translation>Los huecos cerrados mayores, como los lagos, no son errores</translation>
    </message>
    <message>
      <source>Refuse small parts</source>
      <translation>Rechazar lo pequeño</translation>
    </message>
    <message>
      <source>Neighbours follow</source>
      <translation>Mover bordes comunes</translation>
    </message>
    <message>
      <source>Neighbours differ in class</source>
      <translation>Vecinos de distinta clase</translation>
    </message>
    <message>
      <source>If off, they go to the neighbour with the longest border</source>
      <translation>Si se desactiva, las partes menores pasan al vecino con el borde común más largo</translation>
    </message>
    <message>
      <source>Refining a polygon moves the borders that it shares</source>
      <translation>Al refinar un polígono se mueven los bordes que comparte</translation>
    </message>
    <message>
      <source>If off, as for parcels, neighbours of the same class are allowed</source>
      <translation>Si se desactiva, como para parcelas, se admiten vecinos de la misma clase</translation>
    </message>
    <message>
      <source>Fields…</source>
      <translation>Campos…</translation>
    </message>
    <message>
      <source>Find gaps, overlaps, slivers and small parts; N and Shift+N go through them</source>
      <translation>Buscar huecos, solapes, astillas (polígonos espurios) y partes pequeñas; N y Mayús+N los recorren</translation>
    </message>
    <message>
      <source>What is written to the fields of the layer when a polygon is accepted</source>
      <translation>Qué se escribe en los campos de la capa al aceptar un polígono</translation>
    </message>
    <message>
      <source>Checking…</source>
      <translation>Comprobando…</translation>
    </message>
    <message>
      <source>Model variant</source>
      <translation>Variante del modelo</translation>
    </message>
    <message>
      <source>Model variant that draws the polygons; the current polygon is drawn again</source>
      <translation>Variante del modelo que dibuja los polígonos; el polígono actual se dibuja de nuevo</translation>
    </message>
    <message>
      <source>Only the original model is available; use the menu to add a variant tuned on your own polygons</source>
      <translation>Solo está disponible el modelo original; el menú permite añadir una variante ajustada con polígonos propios</translation>
    </message>
    <message>
      <source>Compare with {name}</source>
      <translation>Comparar con {name}</translation>
    </message>
    <message>
      <source>Add a model variant, or make the chosen one the default</source>
      <translation>Añadir una variante del modelo o hacer que la elegida sea la predeterminada</translation>
    </message>
    <message>
      <source>Add a tuned model variant …</source>
      <translation>Añadir una variante ajustada del modelo …</translation>
    </message>
    <message>
      <source>Use the chosen variant by default for this image</source>
      <translation>Usar por defecto en esta imagen la variante elegida</translation>
    </message>
    <message>
      <source>Folder of a model variant, written by geosam-es finetune</source>
      <translation>Carpeta de una variante del modelo, escrita por geosam-es finetune</translation>
    </message>
    <message>
      <source>original</source>
      <translation>original</translation>
    </message>
    <message>
      <source>The model that the image was prepared with</source>
      <translation>El modelo con el que se preparó la imagen</translation>
    </message>
    <message>
      <source>Tuned on {objects} objects, {created}</source>
      <translation>Ajustada con {objects} objetos, {created}</translation>
    </message>
    <message>
      <source>Polygon layer that accepted polygons are written to</source>
      <translation>Capa de polígonos en la que se escriben los polígonos aceptados</translation>
    </message>
    <message>
      <source>Layer</source>
      <translation>Capa</translation>
    </message>
    <message>
      <source>New GeoPackage or Shapefile with fields for class and provenance</source>
      <translation>Nuevo GeoPackage o Shapefile con campos de clase y procedencia</translation>
    </message>
    <message>
      <source>Click on an image</source>
      <translation>Hacer clic en una imagen</translation>
    </message>
    <message>
      <source>Click on a raster layer, or open or drop its prepared image here.</source>
      <translation>Hacer clic en una capa ráster, o bien abrir su imagen preparada o arrastrarla hasta aquí.</translation>
    </message>
    <message>
      <source>Click: inside · Shift: outside
Drag: box · Alt+drag: lasso
Right click: accept · Space: pan</source>
      <translation>Clic: dentro · Mayús: fuera
Arrastrar: recuadro · Alt+arrastrar: lazo
Clic dcho.: aceptar · Espacio: mover</translation>
    </message>
    <message>
      <source>GeoPackage (*.gpkg);;Shapefile (*.shp)</source>
      <translation>GeoPackage (*.gpkg);;Shapefile (*.shp)</translation>
    </message>
    <message>
      <source>New polygon layer</source>
      <translation>Nueva capa de polígonos</translation>
    </message>
    <message>
      <source>Accept</source>
      <translation>Aceptar</translation>
    </message>
    <message>
      <source>Prepare this view</source>
      <translation>Preparar esta vista</translation>
    </message>
    <message>
      <source>Prepare the tiles in view now, so that clicks here need not wait</source>
      <translation>Preparar ahora las teselas de la vista, para no tener que esperar al hacer clic</translation>
    </message>
    <message>
      <source>Prepare this layer</source>
      <translation>Preparar esta capa</translation>
    </message>
    <message>
      <source>Prepare the whole raster in the background while you work</source>
      <translation>Preparar el ráster entero en segundo plano mientras se trabaja</translation>
    </message>
    <message>
      <source>Stop; finished tiles are kept</source>
      <translation>Detener; las teselas terminadas se conservan</translation>
    </message>
    <message>
      <source>Only images in local files can be prepared here, with the model chosen in the options</source>
      <translation>Aquí solo se pueden preparar imágenes de archivos locales, con el modelo elegido en las opciones</translation>
    </message>
    <message>
      <source>Fields of {layer}</source>
      <translation>Campos de {layer}</translation>
    </message>
    <message>
      <source>Area (ha)</source>
      <translation>Superficie (ha)</translation>
    </message>
    <message>
      <source>Date</source>
      <translation>Fecha</translation>
    </message>
    <message>
      <source>Image</source>
      <translation>Imagen</translation>
    </message>
    <message>
      <source>Date of the image</source>
      <translation>Fecha de la imagen</translation>
    </message>
    <message>
      <source>Prompts</source>
      <translation>Indicaciones</translation>
    </message>
    <message>
      <source>Score</source>
      <translation>Puntuación</translation>
    </message>
    <message>
      <source>Interpreter</source>
      <translation>Fotointérprete</translation>
    </message>
    <message>
      <source>Expression</source>
      <translation>Expresión</translation>
    </message>
    <message>
      <source>Choose a field or type the name of a new one; leave empty what you do not need.</source>
      <translation>Elegir un campo o escribir el nombre de uno nuevo; dejar en blanco lo que no haga falta.</translation>
    </message>
    <message>
      <source>Your full name, as set in the operating system or in QGIS</source>
      <translation>El nombre completo del usuario, según el sistema operativo o QGIS</translation>
    </message>
    <message>
      <source>On the ellipsoid; QGIS updates it when the polygon changes</source>
      <translation>Sobre el elipsoide; QGIS la actualiza cuando cambia el polígono</translation>
    </message>
    <message>
      <source>Image and model</source>
      <translation>Imagen y modelo</translation>
    </message>
    <message>
      <source>Learn from this layer …</source>
      <translation>Entrenar con esta capa …</translation>
    </message>
    <message>
      <source>Train the model on the polygons of the layer; the current model is kept</source>
      <translation>Entrenar el modelo con los polígonos de la capa; el modelo actual se conserva</translation>
    </message>
    <message>
      <source>Prepared image</source>
      <translation>Imagen preparada</translation>
    </message>
    <message>
      <source>Open a prepared image (folder NAME.embeddings.zarr)</source>
      <translation>Abrir una imagen preparada (carpeta NOMBRE.embeddings.zarr)</translation>
    </message>
    <message>
      <source>Open a prepared image on a web server or in S3 object storage, by its address</source>
      <translation>Abrir por su dirección una imagen preparada de un servidor web o de un almacén de objetos S3</translation>
    </message>
    <message>
      <source>Outline</source>
      <translation>Contorno</translation>
    </message>
    <message>
      <source>Show the area of the prepared image</source>
      <translation>Mostrar la zona que cubre la imagen preparada</translation>
    </message>
    <message>
      <source>Tiles</source>
      <translation>Teselas</translation>
    </message>
    <message>
      <source>Show the tiles used at this scale; orange: not prepared</source>
      <translation>Mostrar las teselas que se usan a esta escala; en naranja, las que están sin preparar</translation>
    </message>
    <message>
      <source>None</source>
      <translation>Ninguna</translation>
    </message>
    <message>
      <source>Choose a prepared image, or drop its folder here</source>
      <translation>Elegir una imagen preparada o arrastrar su carpeta hasta aquí</translation>
    </message>
    <message>
      <source>Open a prepared image</source>
      <translation>Abrir una imagen preparada</translation>
    </message>
    <message>
      <source>Address of the folder NAME.embeddings.zarr (https:// or s3://)</source>
      <translation>Dirección de la carpeta NOMBRE.embeddings.zarr (https:// o s3://)</translation>
    </message>
    <message>
      <source>Installing {name}</source>
      <translation>Instalando {name}</translation>
    </message>
    <message>
      <source>Install</source>
      <translation>Instalar</translation>
    </message>
    <message>
      <source>Downloads the packages into a folder of your QGIS profile</source>
      <translation>Descarga los paquetes en una carpeta del perfil de QGIS</translation>
    </message>
    <message>
      <source>From files</source>
      <translation>Desde archivos</translation>
    </message>
    <message>
      <source>Installs from wheels on this computer, without network</source>
      <translation>Instala desde paquetes (wheels) de este equipo, sin conexión</translation>
    </message>
    <message>
      <source>From zip…</source>
      <translation>Desde zip…</translation>
    </message>
    <message>
      <source>From folder…</source>
      <translation>Desde carpeta…</translation>
    </message>
    <message>
      <source>Zip of wheels</source>
      <translation>Zip de paquetes (wheels)</translation>
    </message>
    <message>
      <source>Folder of wheels</source>
      <translation>Carpeta de paquetes (wheels)</translation>
    </message>
    <message>
      <source>Installed: {names}. No restart is needed.</source>
      <translation>Instalado: {names}. No hace falta reiniciar.</translation>
    </message>
    <message>
      <source>Installed: {names}. Restart QGIS to use them.</source>
      <translation>Instalado: {names}. Reiniciar QGIS para usarlos.</translation>
    </message>
    <message>
      <source>Learn from {layer}</source>
      <translation>Entrenar con {layer}</translation>
    </message>
    <message>
      <source>Quick: about 3 minutes</source>
      <translation>Rápido: unos 3 minutos</translation>
    </message>
    <message>
      <source>Thorough: about 15 minutes; images are prepared again with the result</source>
      <translation>A fondo: unos 15 minutos; las imágenes se vuelven a preparar con el resultado</translation>
    </message>
    <message>
      <source>Thorough: about 10 minutes</source>
      <translation>A fondo: unos 10 minutos</translation>
    </message>
    <message>
      <source>Leave it empty to learn from the polygons of all classes</source>
      <translation>Dejarlo vacío para entrenar con los polígonos de todas las clases</translation>
    </message>
    <message>
      <source>Selected polygons only</source>
      <translation>Solo los polígonos seleccionados</translation>
    </message>
    <message>
      <source>Select at least {count} polygons</source>
      <translation>Seleccionar al menos {count} polígonos</translation>
    </message>
    <message>
      <source>Learn</source>
      <translation>Entrenar</translation>
    </message>
    <message>
      <source>Last result</source>
      <translation>Último resultado</translation>
    </message>
    <message>
      <source>Training</source>
      <translation>Entrenamiento</translation>
    </message>
    <message>
      <source>Class field</source>
      <translation>Campo de clase</translation>
    </message>
    <message>
      <source>all</source>
      <translation>todas</translation>
    </message>
    <message>
      <source>The model is learning already</source>
      <translation>El modelo ya se está entrenando</translation>
    </message>
    <message>
      <source>Click on an image first</source>
      <translation>Hacer clic antes en una imagen</translation>
    </message>
    <message>
      <source>Choose a layer with polygons of this image</source>
      <translation>Elegir una capa con polígonos de esta imagen</translation>
    </message>
    <message>
      <source>{layer} has {count} polygons on this image; at least {least} are needed, 50 are better</source>
      <translation>{layer} tiene {count} polígonos en esta imagen; hacen falta al menos {least}, y son mejor 50</translation>
    </message>
    <message>
      <source>The model learns from {layer}</source>
      <translation>Entrenando el modelo con {layer}</translation>
    </message>
    <message>
      <source>The model stays as it is</source>
      <translation>El modelo se queda como está</translation>
    </message>
    <message>
      <source>Report</source>
      <translation>Informe</translation>
    </message>
    <message>
      <source>Prepare images with the new model from now on</source>
      <translation>A partir de ahora, preparar las imágenes con el modelo nuevo</translation>
    </message>
    <message>
      <source>Choose the new variant for this image</source>
      <translation>Elegir la nueva variante para esta imagen</translation>
    </message>
    <message>
      <source>Use it</source>
      <translation>Usarla</translation>
    </message>
    <message>
      <source>Show the earlier result, which is not used yet</source>
      <translation>Muestra el resultado anterior, que aún no se usa</translation>
    </message>
    <message>
      <source>{folder} cannot be written ({reason})</source>
      <translation>No se puede escribir en {folder} ({reason})</translation>
    </message>
    <message>
      <source>Images are prepared with {name} now. Empty the model folder in the options to go back.</source>
      <translation>Las imágenes se preparan ahora con {name}. Para volver atrás, vaciar la carpeta del modelo en las opciones.</translation>
    </message>
    <message>
      <source>click</source>
      <translation>clic</translation>
    </message>
    <message>
      <source>on {count} test polygons</source>
      <translation>en {count} polígonos de evaluación</translation>
    </message>
    <message>
      <source>on the {count} polygons it learned from</source>
      <translation>en los {count} polígonos del entrenamiento</translation>
    </message>
    <message>
      <source>The model learned from {layer}: {figures} {where}.</source>
      <translation>El modelo se ha entrenado con {layer}: {figures} {where}.</translation>
    </message>
    <message>
      <source>The model did not get better with {layer} and stays as it is: {figures} {where}.</source>
      <translation>El modelo no ha mejorado con {layer} y se queda como está: {figures} {where}.</translation>
    </message>
    <message>
      <source>Shape and borders</source>
      <translation>Forma y bordes</translation>
    </message>
    <message>
      <source>Simplify</source>
      <translation>Simplificar</translation>
    </message>
    <message>
      <source> px</source>
      <translation> px</translation>
    </message>
    <message>
      <source>Maximum distance by which the outline may move</source>
      <translation>Distancia máxima que se puede desplazar el contorno</translation>
    </message>
    <message>
      <source>Fill holes below</source>
      <translation>Rellenar agujeros hasta</translation>
    </message>
    <message>
      <source>Smaller holes are filled</source>
      <translation>Los agujeros más pequeños se rellenan</translation>
    </message>
    <message>
      <source>Smaller parts are dropped</source>
      <translation>Las partes más pequeñas se eliminan</translation>
    </message>
    <message>
      <source>Snap to neighbours</source>
      <translation>Ajustar a bordes vecinos</translation>
    </message>
    <message>
      <source>Borders closer than this to other polygons of the layer are moved onto them (in metres)</source>
      <translation>Los bordes que están a menos de esta distancia de otros polígonos de la capa se llevan hasta ellos (en metros)</translation>
    </message>
    <message>
      <source>Keep all pieces</source>
      <translation>Todas las partes</translation>
    </message>
    <message>
      <source>Also those without a click; otherwise specks are dropped</source>
      <translation>Conservar también las que no tienen ningún clic; si no, las motas se eliminan</translation>
    </message>
    <message>
      <source>No overlaps</source>
      <translation>Sin solapes</translation>
    </message>
    <message>
      <source>Cut off the parts that other polygons of the layer cover</source>
      <translation>Recortar lo que ya cubren otros polígonos de la capa</translation>
    </message>
    <message>
      <source>Open the form</source>
      <translation>Abrir el formulario</translation>
    </message>
    <message>
      <source>Open the attribute form for each accepted polygon</source>
      <translation>Abrir el formulario de atributos con cada polígono aceptado</translation>
    </message>
    <message>
      <source>Prompts table</source>
      <translation>Tabla de indicaciones</translation>
    </message>
    <message>
      <source>In a GeoPackage without fields for prompts, so that polygons can be refined later</source>
      <translation>En un GeoPackage sin campos para las indicaciones, para poder refinar los polígonos más adelante</translation>
    </message>
    <message>
      <source>Colour of polygons without a class</source>
      <translation>Color de los polígonos sin clase</translation>
    </message>
    <message>
      <source>Opacity of the polygon being drawn</source>
      <translation>Opacidad del polígono que se está dibujando</translation>
    </message>
    <message>
      <source>Applies to images opened from now on; automatic: one thread per core</source>
      <translation>Se aplica a las imágenes que se abran a partir de ahora; automático: un hilo por núcleo</translation>
    </message>
    <message>
      <source>automatic</source>
      <translation>automático</translation>
    </message>
    <message>
      <source>the built-in model</source>
      <translation>el modelo incluido</translation>
    </message>
    <message>
      <source>Folder written by geosam-es export --encoder; this model prepares the images</source>
      <translation>Carpeta escrita por geosam-es export --encoder; con este modelo se preparan las imágenes</translation>
    </message>
    <message>
      <source>Enlarge the image for small objects, even with a slow model</source>
      <translation>Ampliar la imagen para objetos pequeños, también con un modelo lento</translation>
    </message>
    <message>
      <source>If you zoom in beyond the pixels of the image or draw a small box, the image is prepared again there, enlarged 2 or 4 times. The built-in model always does this. Applies to images opened from now on.</source>
      <translation>Al acercarse más allá de los píxeles de la imagen o al dibujar un recuadro pequeño, la imagen se prepara de nuevo en ese lugar, ampliada 2 o 4 veces. El modelo incluido lo hace siempre. Se aplica a las imágenes que se abran a partir de ahora.</translation>
    </message>
    <message>
      <source>When the cache is full, the prepared images used least recently are deleted first</source>
      <translation>Cuando la caché está llena, se borran primero las imágenes preparadas que llevan más tiempo sin usarse</translation>
    </message>
    <message>
      <source>In the cache; ask for each new image</source>
      <translation>En la caché; preguntar con cada imagen nueva</translation>
    </message>
    <message>
      <source>In the cache</source>
      <translation>En la caché</translation>
    </message>
    <message>
      <source>Beside the image</source>
      <translation>Junto a la imagen</translation>
    </message>
    <message>
      <source>Where new prepared images go. One beside its image is always used. The cache takes half the space.</source>
      <translation>Dónde se guardan las imágenes preparadas nuevas. Si ya hay una junto a la imagen, se usa siempre. En la caché ocupan la mitad.</translation>
    </message>
    <message>
      <source>The geosam-es command, or the Python in which it is installed, outside QGIS</source>
      <translation>La orden geosam-es, o el Python en el que está instalada, fuera de QGIS</translation>
    </message>
    <message>
      <source>On the map</source>
      <translation>En el mapa</translation>
    </message>
    <message>
      <source>Colour</source>
      <translation>Color</translation>
    </message>
    <message>
      <source>Fill</source>
      <translation>Relleno</translation>
    </message>
    <message>
      <source>Model</source>
      <translation>Modelo</translation>
    </message>
    <message>
      <source>Threads</source>
      <translation>Hilos</translation>
    </message>
    <message>
      <source>Model folder</source>
      <translation>Carpeta del modelo</translation>
    </message>
    <message>
      <source>Prepared images</source>
      <translation>Imágenes preparadas</translation>
    </message>
    <message>
      <source>Cache limit</source>
      <translation>Límite de la caché</translation>
    </message>
    <message>
      <source>Cache now</source>
      <translation>Caché actual</translation>
    </message>
    <message>
      <source>Preparing images</source>
      <translation>Preparación de imágenes</translation>
    </message>
    <message>
      <source>Evaluating and tuning model variants</source>
      <translation>Evaluación y ajuste de variantes del modelo</translation>
    </message>
    <message>
      <source>Command line</source>
      <translation>Línea de órdenes</translation>
    </message>
    <message>
      <source>What the Install button installs; delete the folder to uninstall it</source>
      <translation>Lo que instala el botón Instalar; para desinstalarlo, borrar la carpeta</translation>
    </message>
    <message>
      <source>Python packages</source>
      <translation>Paquetes de Python</translation>
    </message>
    <message>
      <source>Folder</source>
      <translation>Carpeta</translation>
    </message>
    <message>
      <source>not found</source>
      <translation>no encontrada</translation>
    </message>
    <message>
      <source>as traced</source>
      <translation>tal cual</translation>
    </message>
    <message>
      <source>fewest vertices</source>
      <translation>generalizado</translation>
    </message>
    <message>
      <source>smooth curves</source>
      <translation>suavizado</translation>
    </message>
    <message>
      <source>Fewest vertices: as few as keep the outline within one pixel of the image.
Smooth curves: for woods, water and other natural borders.
Remembered for each class.</source>
      <translation>Generalizado: los vértices justos para que el contorno no se desvíe más de un píxel de la imagen.
Suavizado: para bosques, agua y otros bordes naturales.
Se recuerda para cada clase.</translation>
    </message>
    <message>
      <source>Right angles</source>
      <translation>Ángulos rectos</translation>
    </message>
    <message>
      <source>Square the corners of buildings. Remembered for each class.</source>
      <translation>Poner en ángulo recto las esquinas de los edificios. Se recuerda para cada clase.</translation>
    </message>
    <message>
      <source>The model finds no object here: add a point or draw a box</source>
      <translation>El modelo no encuentra ningún objeto aquí: añadir un punto o dibujar un recuadro</translation>
    </message>
    <message>
      <source>Candidate {rank} of {count}, expected IoU {score}, detail {detail} %, {time:.0f} ms</source>
      <translation>Alternativa {rank} de {count}, IoU esperado {score}, detalle {detail} %, {time:.0f} ms</translation>
    </message>
    <message>
      <source>detail {detail} %</source>
      <translation>detalle {detail} %</translation>
    </message>
    <message>
      <source>shaped by hand</source>
      <translation>retocado a mano</translation>
    </message>
    <message>
      <source>sure ({score})</source>
      <translation>seguro ({score})</translation>
    </message>
    <message>
      <source>uncertain: add points ({score})</source>
      <translation>dudoso: añadir puntos ({score})</translation>
    </message>
    <message>
      <source>uncertain: draw a box ({score})</source>
      <translation>dudoso: dibujar un recuadro ({score})</translation>
    </message>
    <message>
      <source>whole</source>
      <translation>entero</translation>
    </message>
    <message>
      <source>part</source>
      <translation>parte</translation>
    </message>
    <message>
      <source>sub-part</source>
      <translation>parte menor</translation>
    </message>
    <message>
      <source>area unknown: check the CRS of the raster</source>
      <translation>superficie desconocida: comprobar el SRC del ráster</translation>
    </message>
    <message>
      <source>no object</source>
      <translation>ningún objeto</translation>
    </message>
    <message>
      <source>Agreement (IoU): {percent} %</source>
      <translation>Coincidencia (IoU): {percent} %</translation>
    </message>
    <message>
      <source>Layer of polygons that a machine proposed</source>
      <translation>Capa de polígonos propuestos por una máquina</translation>
    </message>
    <message>
      <source>Field with the confidence of the machine</source>
      <translation>Campo con la confianza de la máquina</translation>
    </message>
    <message>
      <source>Doubtful first</source>
      <translation>Primero los dudosos</translation>
    </message>
    <message>
      <source>Nearest next</source>
      <translation>Primero el más cercano</translation>
    </message>
    <message>
      <source>Polygons with a lower value, or without one, stay out of the queue</source>
      <translation>Los polígonos con un valor menor, o sin valor, quedan fuera de la cola</translation>
    </message>
    <message>
      <source>In one undo step, the surest first; what cannot be accepted is left out</source>
      <translation>En un solo paso de deshacer, los más seguros primero; lo que no se puede aceptar queda fuera</translation>
    </message>
    <message>
      <source>Find similar objects</source>
      <translation>Buscar objetos parecidos</translation>
    </message>
    <message>
      <source>Segment everything</source>
      <translation>Segmentar todo</translation>
    </message>
    <message>
      <source>Propose all objects of the image, of the view or of an area</source>
      <translation>Proponer todos los objetos de la imagen, de la vista o de una zona</translation>
    </message>
    <message>
      <source>No confidence field</source>
      <translation>Sin campo de confianza</translation>
    </message>
    <message>
      <source>Find and review</source>
      <translation>Buscar y revisar</translation>
    </message>
    <message>
      <source>Accept all from {value} ({count})</source>
      <translation>Aceptar todos desde {value} ({count})</translation>
    </message>
    <message>
      <source>Accept all ({count})</source>
      <translation>Aceptar todos ({count})</translation>
    </message>
    <message>
      <source>{accepted} accepted · {rejected} rejected</source>
      <translation>Aceptados: {accepted} · rechazados: {rejected}</translation>
    </message>
    <message>
      <source>Do not ask again</source>
      <translation>No volver a preguntar</translation>
    </message>
    <message>
      <source>{name} is being prepared in the cache, which takes at most {size}.</source>
      <translation>La imagen preparada de {name} va a la caché, donde ocupará como mucho {size}.</translation>
    </message>
    <message>
      <source>{name} is being prepared in the cache, which takes at most {size}, or {more} with enlarged detail.</source>
      <translation>La imagen preparada de {name} va a la caché, donde ocupará como mucho {size}, o {more} con detalle ampliado.</translation>
    </message>
    <message>
      <source>Keep it:</source>
      <translation>Guardarla:</translation>
    </message>
    <message>
      <source>Loading GeoSAM-ES</source>
      <translation>Cargando GeoSAM-ES</translation>
    </message>
    <message>
      <source>This image was prepared with the model {name}, which cannot prepare images here</source>
      <translation>Esta imagen se preparó con el modelo {name}, que aquí no puede preparar imágenes</translation>
    </message>
    <message>
      <source>continue with: geosam-es encode --resume</source>
      <translation>continuar con: geosam-es encode --resume</translation>
    </message>
    <message>
      <source>Preparing {name}</source>
      <translation>Preparando {name}</translation>
    </message>
    <message>
      <source>Preparing the view of {name}</source>
      <translation>Preparando la vista de {name}</translation>
    </message>
    <message>
      <source>{done} of {total} tiles, {time} left</source>
      <translation>{done} de {total} teselas, quedan {time}</translation>
    </message>
    <message>
      <source>Preparation finished</source>
      <translation>Preparación terminada</translation>
    </message>
    <message>
      <source>Stopped. The tiles prepared so far are kept.</source>
      <translation>Detenido. Las teselas ya preparadas se conservan.</translation>
    </message>
    <message>
      <source>see QGIS's log, and try again</source>
      <translation>consultar el registro de QGIS e intentarlo de nuevo</translation>
    </message>
    <message>
      <source>No layer of the project shows {name}. Its prepared image answers where no raster layer is visible.</source>
      <translation>Ninguna capa del proyecto muestra {name}. Su imagen preparada se usa donde no se ve ninguna capa ráster.</translation>
    </message>
    <message>
      <source>open the prepared image of {name}, or encode the raster again</source>
      <translation>abrir la imagen preparada de {name} o preparar de nuevo el ráster</translation>
    </message>
    <message>
      <source>The prepared image of {name} has the CRS {stored}, but its layer has {crs}. Polygons are placed by the CRS of the layer; that of the prepared image could not be corrected: {reason}.</source>
      <translation>La imagen preparada de {name} tiene el SRC {stored}, pero su capa tiene {crs}. Los polígonos se sitúan según el SRC de la capa; el de la imagen preparada no se pudo corregir: {reason}.</translation>
    </message>
    <message>
      <source>Opening {name}</source>
      <translation>Abriendo {name}</translation>
    </message>
    <message>
      <source>{task} was stopped</source>
      <translation>Se ha detenido la tarea «{task}»</translation>
    </message>
    <message>
      <source>click again</source>
      <translation>hacer clic de nuevo</translation>
    </message>
    <message>
      <source>The model could not process the prompt ({reason})</source>
      <translation>El modelo no pudo procesar la indicación ({reason})</translation>
    </message>
    <message>
      <source>try another one</source>
      <translation>probar con otra</translation>
    </message>
    <message>
      <source>{folder} cannot hold the grid of the coverage ({reason})</source>
      <translation>En {folder} no cabe la malla de la cobertura ({reason})</translation>
    </message>
    <message>
      <source>free some space there, or choose a smaller area</source>
      <translation>liberar espacio allí, o elegir una zona menor</translation>
    </message>
    <message>
      <source>{source} has label {label}</source>
      <translation>{source} tiene la etiqueta {label}</translation>
    </message>
    <message>
      <source>use 1 for positive and 0 for negative points</source>
      <translation>usar 1 para los puntos dentro y 0 para los puntos fuera del objeto</translation>
    </message>
    <message>
      <source>{source} has two boxes for object {object}</source>
      <translation>{source} tiene dos recuadros para el objeto {object}</translation>
    </message>
    <message>
      <source>remove one of them</source>
      <translation>quitar uno de los dos</translation>
    </message>
    <message>
      <source>{source} has a polygon with label 0</source>
      <translation>{source} tiene un polígono con etiqueta 0</translation>
    </message>
    <message>
      <source>use points to mark what is outside an object</source>
      <translation>usar puntos para marcar lo que queda fuera de un objeto</translation>
    </message>
    <message>
      <source>{source} has a {kind}, which is not a valid prompt</source>
      <translation>{source} tiene una geometría {kind}, que no es una indicación válida</translation>
    </message>
    <message>
      <source>use points and polygons only</source>
      <translation>usar solo puntos y polígonos</translation>
    </message>
    <message>
      <source>The prompts cannot be transformed to the raster's CRS</source>
      <translation>Las indicaciones no se pueden transformar al SRC del ráster</translation>
    </message>
    <message>
      <source>check the CRS of the prompts</source>
      <translation>comprobar el SRC de las indicaciones</translation>
    </message>
    <message>
      <source>The size of a pixel in metres is unknown</source>
      <translation>No se conoce el tamaño de un píxel en metros</translation>
    </message>
    <message>
      <source>check the CRS of the raster, or give a level</source>
      <translation>comprobar el SRC del ráster o indicar un nivel</translation>
    </message>
    <message>
      <source>The model gives masks that are not numbers, so its decoder or the tile is damaged</source>
      <translation>El modelo da máscaras con valores no numéricos: la variante del modelo o la tesela está dañada</translation>
    </message>
    <message>
      <source>check the store with geosam-es verify, or copy it again</source>
      <translation>comprobar la imagen preparada con geosam-es verify, o copiarla de nuevo</translation>
    </message>
    <message>
      <source>{path} reads the features itself, and {prepare} belongs to another decoder</source>
      <translation>{path} lee las características directamente, y {prepare} es de otra variante del modelo</translation>
    </message>
    <message>
      <source>remove {prepare}, or copy or export both again</source>
      <translation>quitar {prepare}, o copiar o exportar los dos de nuevo</translation>
    </message>
    <message>
      <source>{path} does not match the {name} next to it</source>
      <translation>{path} no se corresponde con el {name} de la misma carpeta</translation>
    </message>
    <message>
      <source>copy or export both again</source>
      <translation>copiar o exportar de nuevo los dos</translation>
    </message>
    <message>
      <source>{path} is not a complete SAM decoder, and no prepare.onnx is next to it (missing or unknown: {names})</source>
      <translation>{path} no es un decodificador de SAM completo, y no hay ningún prepare.onnx junto a él (faltan o no se conocen: {names})</translation>
    </message>
    <message>
      <source>{path} is not an encoder: it needs the input images and the outputs {outputs}</source>
      <translation>{path} no es un modelo para preparar imágenes: necesita la entrada images y las salidas {outputs}</translation>
    </message>
    <message>
      <source>export the model again with: geosam-es export MODEL -o DIR --encoder</source>
      <translation>exportar de nuevo el modelo con: geosam-es export MODELO -o CARPETA --encoder</translation>
    </message>
    <message>
      <source>{folder} has no {name}, and its encoder.onnx is not one of segment-anything or samexporter: it takes {inputs} and gives {outputs}</source>
      <translation>{folder} no tiene {name}, y su encoder.onnx no es de segment-anything ni de samexporter: recibe {inputs} y da {outputs}</translation>
    </message>
    <message>
      <source>use an encoder with the output image_embeddings (SAM, MobileSAM), or image_embed, high_res_feats_0 and high_res_feats_1 (SAM 2), for tiles of 1024 pixels as float32</source>
      <translation>usar un modelo para preparar imágenes con la salida image_embeddings (SAM, MobileSAM), o image_embed, high_res_feats_0 y high_res_feats_1 (SAM 2), para teselas de 1024 píxeles en float32</translation>
    </message>
    <message>
      <source>{folder} is not a model folder: its {name} is missing or damaged</source>
      <translation>{folder} no es una carpeta de modelo: {name} falta o está dañado</translation>
    </message>
    <message>
      <source>{package} is not installed</source>
      <translation>{package} no está instalado</translation>
    </message>
    <message>
      <source>install it with: pip install {package}</source>
      <translation>instalarlo con: pip install {package}</translation>
    </message>
    <message>
      <source>{package} needs {name}, which is not installed</source>
      <translation>{package} necesita {name}, que no está instalado</translation>
    </message>
    <message>
      <source>install it with: pip install {name}</source>
      <translation>instalarlo con: pip install {name}</translation>
    </message>
    <message>
      <source>{package} is installed but does not work with NumPy {version} ({reason})</source>
      <translation>{package} está instalado, pero no funciona con NumPy {version} ({reason})</translation>
    </message>
    <message>
      <source>install a compatible version with: pip install --upgrade {package} "numpy=={version}"</source>
      <translation>instalar una versión compatible con: pip install --upgrade {package} "numpy=={version}"</translation>
    </message>
    <message>
      <source>{package} is installed but does not load ({reason})</source>
      <translation>{package} está instalado, pero no se puede cargar ({reason})</translation>
    </message>
    <message>
      <source>install the Microsoft Visual C++ Redistributable 2019 or later and restart; if that does not help, reinstall it for Python {python} with: pip install --force-reinstall --no-deps {package}</source>
      <translation>instalar Microsoft Visual C++ Redistributable 2019 o posterior y reiniciar; si no se soluciona, reinstalarlo para Python {python} con: pip install --force-reinstall --no-deps {package}</translation>
    </message>
    <message>
      <source>reinstall it with: pip install --force-reinstall --no-deps {package}</source>
      <translation>reinstalarlo con: pip install --force-reinstall --no-deps {package}</translation>
    </message>
    <message>
      <source>{path} is not an ONNX model that onnxruntime {version} can load</source>
      <translation>{path} no es un modelo ONNX que onnxruntime {version} pueda cargar</translation>
    </message>
    <message>
      <source>copy or export the model again, or update onnxruntime</source>
      <translation>copiar o exportar de nuevo el modelo, o actualizar onnxruntime</translation>
    </message>
    <message>
      <source>{name} failed ({reason})</source>
      <translation>Error en {name} ({reason})</translation>
    </message>
    <message>
      <source>use a store and a decoder of the same model</source>
      <translation>usar una imagen preparada y una variante del mismo modelo</translation>
    </message>
    <message>
      <source>{path} is not an ONNX model</source>
      <translation>{path} no es un modelo ONNX</translation>
    </message>
    <message>
      <source>copy or export the model again</source>
      <translation>copiar o exportar de nuevo el modelo</translation>
    </message>
    <message>
      <source>{path} reads weights from {name}, outside its folder</source>
      <translation>{path} lee pesos de {name}, fuera de su carpeta</translation>
    </message>
    <message>
      <source>export the model again, or get it from somebody you trust</source>
      <translation>exportar de nuevo el modelo, o pedirlo a alguien de confianza</translation>
    </message>
    <message>
      <source>copy the store or the model again</source>
      <translation>copiar de nuevo la imagen preparada o el modelo</translation>
    </message>
    <message>
      <source>The outline lies outside the raster, {extent}</source>
      <translation>El contorno está fuera del ráster, {extent}</translation>
    </message>
    <message>
      <source>choose another one, or check the CRS of the prompts</source>
      <translation>elegir otro o comprobar el SRC de las indicaciones</translation>
    </message>
    <message>
      <source>The box lies outside the raster, {extent}, or has no area</source>
      <translation>El recuadro está fuera del ráster, {extent}, o no tiene superficie</translation>
    </message>
    <message>
      <source>draw it on the raster, or check the CRS of the prompts</source>
      <translation>dibujarlo sobre el ráster o comprobar el SRC de las indicaciones</translation>
    </message>
    <message>
      <source>The point ({x:.8g}, {y:.8g}) lies outside the raster, {extent}</source>
      <translation>El punto ({x:.8g}, {y:.8g}) está fuera del ráster, {extent}</translation>
    </message>
    <message>
      <source>move it inside, or check the CRS of the prompts</source>
      <translation>moverlo dentro o comprobar el SRC de las indicaciones</translation>
    </message>
    <message>
      <source>There is no data at ({x:.8g}, {y:.8g}), or it lies outside the area of interest</source>
      <translation>No hay datos en ({x:.8g}, {y:.8g}), o queda fuera de la zona de interés</translation>
    </message>
    <message>
      <source>choose another place, or prepare this one</source>
      <translation>elegir otro lugar o preparar este</translation>
    </message>
    <message>
      <source>Not all tiles around ({x:.8g}, {y:.8g}) have been prepared yet</source>
      <translation>Aún no se han preparado todas las teselas alrededor de ({x:.8g}, {y:.8g})</translation>
    </message>
    <message>
      <source>encode the whole image into another store</source>
      <translation>preparar toda la imagen en otra carpeta</translation>
    </message>
    <message>
      <source>prepare the rest with: geosam-es encode --resume</source>
      <translation>preparar el resto con: geosam-es encode --resume</translation>
    </message>
    <message>
      <source>The line does not divide the polygon</source>
      <translation>La línea no divide el polígono</translation>
    </message>
    <message>
      <source>begin and end it outside</source>
      <translation>empezarla y terminarla fuera</translation>
    </message>
    <message>
      <source>There is no candidate {number}</source>
      <translation>No hay ninguna alternativa {number}</translation>
    </message>
    <message>
      <source>choose one from 1 to {count}</source>
      <translation>elegir una de la 1 a la {count}</translation>
    </message>
    <message>
      <source>give a prompt first</source>
      <translation>dar antes una indicación</translation>
    </message>
    <message>
      <source>Nothing is left of the polygon</source>
      <translation>No queda nada del polígono</translation>
    </message>
    <message>
      <source>undo the last step, or discard the polygon</source>
      <translation>deshacer el último paso o descartar el polígono</translation>
    </message>
    <message>
      <source>No example lies on a prepared part of the raster</source>
      <translation>Ningún ejemplo está en una parte preparada del ráster</translation>
    </message>
    <message>
      <source>prepare it, or choose other examples</source>
      <translation>prepararla o elegir otros ejemplos</translation>
    </message>
    <message>
      <source>{source} has no coordinate reference system</source>
      <translation>{source} no tiene sistema de referencia de coordenadas</translation>
    </message>
    <message>
      <source>set it in the properties of the layer</source>
      <translation>asignarlo en las propiedades de la capa</translation>
    </message>
    <message>
      <source>{source} lies outside the raster {raster}</source>
      <translation>{source} está fuera del ráster {raster}</translation>
    </message>
    <message>
      <source>check the layer and its CRS</source>
      <translation>comprobar la capa y su SRC</translation>
    </message>
    <message>
      <source>{source} has no polygons</source>
      <translation>{source} no tiene polígonos</translation>
    </message>
    <message>
      <source>draw some, or choose another layer</source>
      <translation>dibujar alguno o elegir otra capa</translation>
    </message>
    <message>
      <source>Draws all objects of a raster, of an extent such as the view, or of the area of a polygon layer. The tiles that are missing are prepared first, and kept for the next time.

A grid of points prompts the image at each level of detail. Masks with a good predicted IoU and stability score are kept, and duplicates are removed. The polygons may overlap: an object and its parts are both drawn. As a coverage, every pixel with data lies in exactly one polygon: the better mask wins, areas without a mask are grouped by similarity, and what is smaller than the minimum mapping unit joins a neighbour.

More points find more small objects and take longer. Lower thresholds find more objects, and more false ones. Options left empty get values that suit the model.</source>
      <translation>Dibuja todos los objetos de un ráster, de una extensión como la vista o de la zona de una capa de polígonos. Primero se preparan las teselas que faltan, y se conservan para la próxima vez.

Una malla de puntos recorre la imagen en cada nivel de detalle. Se conservan las máscaras con un buen IoU previsto y una buena puntuación de estabilidad, y se quitan las duplicadas. Los polígonos pueden solaparse: se dibujan tanto los objetos como sus partes. Como cobertura, cada píxel con datos está en un solo polígono: gana la mejor máscara, el terreno sin máscara se agrupa por semejanza, y lo que es menor que la unidad mínima cartografiable se une a un vecino.

Con más puntos se encuentran más objetos pequeños, pero se tarda más. Con umbrales más bajos se encuentran más objetos, pero también más falsos. Las opciones vacías toman valores adecuados para el modelo.</translation>
    </message>
    <message>
      <source>Extent</source>
      <translation>Extensión</translation>
    </message>
    <message>
      <source>Area of interest (by default all)</source>
      <translation>Zona de interés (por defecto, todo)</translation>
    </message>
    <message>
      <source>As a coverage, without overlaps and gaps</source>
      <translation>Como cobertura, sin solapes ni huecos</translation>
    </message>
    <message>
      <source>Minimum mapping unit of the coverage (square metres; by default 400 pixels)</source>
      <translation>Unidad mínima cartografiable de la cobertura (metros cuadrados; por defecto, 400 píxeles)</translation>
    </message>
    <message>
      <source>Polygons</source>
      <translation>Polígonos</translation>
    </message>
    <message>
      <source>coverage</source>
      <translation>cobertura</translation>
    </message>
    <message>
      <source>all objects</source>
      <translation>todos los objetos</translation>
    </message>
    <message>
      <source>The area lies outside the raster</source>
      <translation>La zona está fuera del ráster</translation>
    </message>
    <message>
      <source>choose another extent or layer</source>
      <translation>elegir otra extensión u otra capa</translation>
    </message>
    <message>
      <source>Points along the side of a tile</source>
      <translation>Puntos por lado de cada tesela</translation>
    </message>
    <message>
      <source>Minimum predicted IoU</source>
      <translation>IoU previsto mínimo</translation>
    </message>
    <message>
      <source>Minimum stability score</source>
      <translation>Puntuación de estabilidad mínima</translation>
    </message>
    <message>
      <source>Logit offset for the stability score</source>
      <translation>Desplazamiento del logit para la puntuación de estabilidad</translation>
    </message>
    <message>
      <source>Box IoU above which masks are duplicates</source>
      <translation>IoU de los recuadros a partir del cual las máscaras son duplicadas</translation>
    </message>
    <message>
      <source>Remove parts and holes with fewer pixels</source>
      <translation>Quitar las partes y los agujeros con menos píxeles</translation>
    </message>
    <message>
      <source>Segmentation</source>
      <translation>Segmentación</translation>
    </message>
    <message>
      <source>Model variants</source>
      <translation>Variantes del modelo</translation>
    </message>
    <message>
      <source>{source} has no field {field}</source>
      <translation>{source} no tiene el campo {field}</translation>
    </message>
    <message>
      <source>choose one of its fields, or none</source>
      <translation>elegir uno de sus campos, o ninguno</translation>
    </message>
    <message>
      <source>Raster</source>
      <translation>Ráster</translation>
    </message>
    <message>
      <source>{name} comes from a service, from which Processing must not download many tiles</source>
      <translation>{name} procede de un servicio, del que Procesos no debe descargar muchas teselas</translation>
    </message>
    <message>
      <source>save the part you need as a GeoTIFF with Export &gt; Save As and use that file</source>
      <translation>guardar la parte necesaria como GeoTIFF con Exportar &gt; Guardar como y usar ese archivo</translation>
    </message>
    <message>
      <source>Folder of the prepared image, if not beside the raster</source>
      <translation>Carpeta de la imagen preparada, si no está junto al ráster</translation>
    </message>
    <message>
      <source>There is no image</source>
      <translation>No hay ninguna imagen</translation>
    </message>
    <message>
      <source>choose a raster, or the folder of a prepared image</source>
      <translation>elegir un ráster o la carpeta de una imagen preparada</translation>
    </message>
    <message>
      <source>For polygons that share borders, such as a map of habitats or of land cover. The algorithm finds invalid polygons, overlaps, enclosed gaps, narrow open gaps, slivers, parts below the minimum area, borders whose vertices differ between the two sides, and, with a class field, neighbours of the same class. Each finding becomes a polygon with its kind, its size, the ids of the polygons and a remedy.

The mended polygons are optional. Every remedy is applied: an overlap is left to the smallest polygon; gaps, slivers and small parts go to the neighbour with the longest border; neighbours of the same class are merged, and keep the attributes of the larger one. Enclosed gaps larger than the limit, such as lakes that are no part of the map, are listed last as large gaps. They do not count as faults and are kept. Simplifying changes both sides of a border in the same way.</source>
      <translation>Para polígonos que comparten bordes, como los de un mapa de hábitats o de ocupación del suelo. El algoritmo busca polígonos no válidos, solapes, huecos cerrados, huecos abiertos estrechos, astillas (polígonos espurios), partes menores que la superficie mínima, bordes con vértices distintos a cada lado y, con un campo de clase, vecinos de la misma clase. Cada incidencia da un polígono con su tipo, su tamaño, los identificadores de los polígonos y una solución.

Los polígonos corregidos son opcionales. Se aplican todas las soluciones: un solape se queda en el polígono más pequeño; los huecos, las astillas y las partes pequeñas pasan al vecino con el borde común más largo; los vecinos de la misma clase se combinan y conservan los atributos del mayor. Los huecos cerrados mayores que el límite, por ejemplo lagos que no forman parte del mapa, aparecen al final como huecos grandes. No cuentan como errores y se dejan como están. La simplificación cambia igual los dos lados de cada borde.</translation>
    </message>
    <message>
      <source>Open gaps and slivers up to this width (m)</source>
      <translation>Huecos abiertos y astillas hasta esta anchura (m)</translation>
    </message>
    <message>
      <source>Minimum area (m²)</source>
      <translation>Superficie mínima (m²)</translation>
    </message>
    <message>
      <source>Largest enclosed gap that counts as a fault (m²)</source>
      <translation>Mayor hueco cerrado que cuenta como error (m²)</translation>
    </message>
    <message>
      <source>Simplify the mended polygons (m)</source>
      <translation>Simplificar los polígonos corregidos (m)</translation>
    </message>
    <message>
      <source>Findings</source>
      <translation>Incidencias</translation>
    </message>
    <message>
      <source>Mended polygons</source>
      <translation>Polígonos corregidos</translation>
    </message>
    <message>
      <source>Findings in the mended polygons</source>
      <translation>Incidencias en los polígonos corregidos</translation>
    </message>
    <message>
      <source>The layer of polygons has no CRS</source>
      <translation>La capa de polígonos no tiene SRC</translation>
    </message>
    <message>
      <source>Nothing found</source>
      <translation>No se ha encontrado nada</translation>
    </message>
    <message>
      <source>Findings in the mended polygons: {count}</source>
      <translation>Incidencias en los polígonos corregidos: {count}</translation>
    </message>
    <message>
      <source>The mended polygons have no Z values</source>
      <translation>Los polígonos corregidos no tienen valores Z</translation>
    </message>
    <message>
      <source>choose another layer of polygons</source>
      <translation>elegir otra capa de polígonos</translation>
    </message>
    <message>
      <source>Classify polygons</source>
      <translation>Clasificar polígonos</translation>
    </message>
    <message>
      <source>Gives polygons the classes of training polygons on the same image. A polygon is described by what the model has stored for the image under it and around it, by its shape, and by its pixels. At least two classes with three polygons each are needed.

The result has the fields class, probability and second_class. The report shows how well the classes are found in parts of the image that were left out of the training, and lists the polygons with the least probable classes first.

The algorithm runs geosam-es, a separate program with a Python of its own. The log and the help of GeoSAM-ES say how to install it, also without network. Enter its path in Settings &gt; Options &gt; GeoSAM-ES. It needs scikit-learn there.</source>
      <translation>Da a los polígonos las clases de unos polígonos de entrenamiento de la misma imagen. Cada polígono se describe con lo que el modelo ha guardado de la imagen debajo y alrededor de él, con su forma y con sus píxeles. Hacen falta al menos dos clases con tres polígonos cada una.

El resultado tiene los campos class, probability y second_class. El informe muestra el acierto de las clases en partes de la imagen que se dejaron fuera del entrenamiento, y enumera primero los polígonos con las clases menos probables.

El algoritmo ejecuta geosam-es, un programa aparte de QGIS con un Python propio. El registro y la ayuda de GeoSAM-ES explican cómo instalarlo, también sin conexión. Su ruta se indica en Configuración &gt; Opciones &gt; GeoSAM-ES. Ese Python necesita scikit-learn.</translation>
    </message>
    <message>
      <source>Training polygons</source>
      <translation>Polígonos de entrenamiento</translation>
    </message>
    <message>
      <source>Polygons to classify</source>
      <translation>Polígonos para clasificar</translation>
    </message>
    <message>
      <source>Replace an earlier result of the same name (--overwrite)</source>
      <translation>Sustituir un resultado anterior con el mismo nombre (--overwrite)</translation>
    </message>
    <message>
      <source>Classified polygons</source>
      <translation>Polígonos clasificados</translation>
    </message>
    <message>
      <source>Simplify outlines (pixels)</source>
      <translation>Simplificar los contornos (píxeles)</translation>
    </message>
    <message>
      <source>Finest level of detail (0: as the image, -1: enlarged, 1: coarser)</source>
      <translation>Nivel de detalle más fino (0: como la imagen; -1: ampliada; 1: con menos detalle)</translation>
    </message>
    <message>
      <source>Prepared image: {path}</source>
      <translation>Imagen preparada: {path}</translation>
    </message>
    <message>
      <source>Evaluate model variants against polygons</source>
      <translation>Evaluar las variantes del modelo con polígonos</translation>
    </message>
    <message>
      <source>Measures how well the model variants of an image reproduce reference polygons. A simulated user prompts each polygon in the same way for every variant. The report shows IoU, Dice, precision, recall and boundary F-score with confidence intervals, by class and by size, the number of clicks needed, and the worst cases.

Use polygons that none of the variants was tuned on. Results on training polygons are too good.

The algorithm runs geosam-es, a separate program with a Python of its own. The log and the help of GeoSAM-ES say how to install it, also without network. Enter its path in Settings &gt; Options &gt; GeoSAM-ES.</source>
      <translation>Mide hasta qué punto las variantes del modelo de una imagen reproducen unos polígonos de referencia. Un usuario simulado da las indicaciones de cada polígono, igual para todas las variantes. El informe muestra IoU, Dice, precisión, exhaustividad y F de contorno con sus intervalos de confianza, por clase y por tamaño, el número de clics necesarios y los peores casos.

Usar polígonos con los que no se haya ajustado ninguna de las variantes. Los resultados con los polígonos de entrenamiento son demasiado optimistas.

El algoritmo ejecuta geosam-es, un programa aparte de QGIS con un Python propio. El registro y la ayuda de GeoSAM-ES explican cómo instalarlo, también sin conexión. Su ruta se indica en Configuración &gt; Opciones &gt; GeoSAM-ES.</translation>
    </message>
    <message>
      <source>Reference polygons</source>
      <translation>Polígonos de referencia</translation>
    </message>
    <message>
      <source>Compare all model variants of the prepared image</source>
      <translation>Comparar todas las variantes del modelo de la imagen preparada</translation>
    </message>
    <message>
      <source>Another model variant to compare (a folder)</source>
      <translation>Otra variante del modelo para comparar (una carpeta)</translation>
    </message>
    <message>
      <source>Prompt types</source>
      <translation>Tipos de indicación</translation>
    </message>
    <message>
      <source>Fine-tune the model on polygons</source>
      <translation>Ajustar el modelo con polígonos</translation>
    </message>
    <message>
      <source>Fine-tunes the model of a prepared image on correct polygons, such as those drawn with GeoSAM-ES and saved. Some of the polygons, in separate areas, are held out for testing; the report compares the model before and after on them.

The result is a folder with a model variant. It works with every image that was prepared with the same model: add it here, or later with the menu next to the model variant in the panel. Existing variants are kept.

The algorithm runs geosam-es, a separate program with a Python of its own. The log and the help of GeoSAM-ES say how to install it, also without network. Enter its path in Settings &gt; Options &gt; GeoSAM-ES.</source>
      <translation>Ajusta el modelo de una imagen preparada con polígonos correctos, como los dibujados con GeoSAM-ES y guardados. Una parte de los polígonos, de otras zonas, se reserva para la evaluación; el informe compara con ellos el modelo antes y después del ajuste.

El resultado es una carpeta con una variante del modelo. Sirve para cualquier imagen preparada con el mismo modelo: se puede añadir aquí, o más tarde con el menú que hay junto a la variante del modelo en el panel. Las variantes existentes se conservan.

El algoritmo ejecuta geosam-es, un programa aparte de QGIS con un Python propio. El registro y la ayuda de GeoSAM-ES explican cómo instalarlo, también sin conexión. Su ruta se indica en Configuración &gt; Opciones &gt; GeoSAM-ES.</translation>
    </message>
    <message>
      <source>Class field, to train on one class only</source>
      <translation>Campo de clase, para entrenar con una sola clase</translation>
    </message>
    <message>
      <source>Class to train on</source>
      <translation>Clase con la que se entrena</translation>
    </message>
    <message>
      <source>Use the model variant in the prepared image</source>
      <translation>Usar la variante del modelo en la imagen preparada</translation>
    </message>
    <message>
      <source>Name of the model variant (by default the name of the folder)</source>
      <translation>Nombre de la variante del modelo (por defecto, el de la carpeta)</translation>
    </message>
    <message>
      <source>The decoder and an adapter: the image stays prepared</source>
      <translation>El decodificador y un adaptador: la imagen sigue preparada</translation>
    </message>
    <message>
      <source>The whole built-in model: images must be prepared again with it</source>
      <translation>Todo el modelo incluido: hay que volver a preparar las imágenes con él</translation>
    </message>
    <message>
      <source>What is trained</source>
      <translation>Qué se entrena</translation>
    </message>
    <message>
      <source>Share of the polygons held out for testing</source>
      <translation>Proporción de polígonos reservados para la evaluación</translation>
    </message>
    <message>
      <source>Test polygons from another layer instead</source>
      <translation>O bien, polígonos de evaluación de otra capa</translation>
    </message>
    <message>
      <source>Maximum number of epochs</source>
      <translation>Número máximo de épocas</translation>
    </message>
    <message>
      <source>Maximum training time (minutes)</source>
      <translation>Tiempo máximo de entrenamiento (minutos)</translation>
    </message>
    <message>
      <source>Tuned model variant</source>
      <translation>Variante ajustada del modelo</translation>
    </message>
    <message>
      <source>Name of the model variant in the prepared image</source>
      <translation>Nombre de la variante del modelo en la imagen preparada</translation>
    </message>
    <message>
      <source>To use the model, choose this folder as model folder in the options of GeoSAM-ES</source>
      <translation>Para usar el modelo, elegir esta carpeta como carpeta del modelo en las opciones de GeoSAM-ES</translation>
    </message>
    <message>
      <source>The prepared image now uses the model variant {name}</source>
      <translation>La imagen preparada usa ahora la variante del modelo {name}</translation>
    </message>
    <message>
      <source>Set both the class field and the class, or neither</source>
      <translation>Indicar el campo de clase y la clase, o ninguno de los dos</translation>
    </message>
    <message>
      <source>Outline and tiles of a prepared image</source>
      <translation>Contorno y teselas de la imagen preparada</translation>
    </message>
    <message>
      <source>Choose a raster that has been prepared, or the folder of a prepared image. The algorithm writes the outline of the raster as a polygon, with the properties of the prepared image, and one polygon for each tile of each level with its state: encoded (prepared), skipped (no data, or outside the area of interest) or missing.</source>
      <translation>Elegir un ráster ya preparado o la carpeta de una imagen preparada. El algoritmo escribe el contorno del ráster como un polígono, con las propiedades de la imagen preparada, y un polígono por cada tesela de cada nivel de detalle con su estado: preparada (encoded), omitida (skipped: sin datos o fuera de la zona de interés) o pendiente (missing).</translation>
    </message>
    <message>
      <source>Prepared tiles</source>
      <translation>Teselas preparadas</translation>
    </message>
    <message>
      <source>Skipped tiles</source>
      <translation>Teselas omitidas</translation>
    </message>
    <message>
      <source>Missing tiles</source>
      <translation>Teselas pendientes</translation>
    </message>
    <message>
      <source>{name} has not been prepared</source>
      <translation>{name} no se ha preparado</translation>
    </message>
    <message>
      <source>run Prepare raster first, or choose the folder of its prepared image</source>
      <translation>ejecutar antes Preparar ráster o elegir la carpeta de su imagen preparada</translation>
    </message>
    <message>
      <source>{count} tiles are not prepared and are left out</source>
      <translation>Hay {count} teselas sin preparar, que quedan fuera</translation>
    </message>
    <message>
      <source>Preparing {count} tiles</source>
      <translation>Preparando {count} teselas</translation>
    </message>
    <message>
      <source>{count} tiles prepared, {empty} without data, in {time}</source>
      <translation>{count} teselas preparadas, {empty} sin datos, en {time}</translation>
    </message>
    <message>
      <source>Writing the polygons to {path}</source>
      <translation>Escribiendo los polígonos en {path}</translation>
    </message>
    <message>
      <source>{path} cannot be written: {reason}</source>
      <translation>No se puede escribir {path}: {reason}</translation>
    </message>
    <message>
      <source>check the free disk space and the permissions</source>
      <translation>comprobar el espacio libre en disco y los permisos</translation>
    </message>
    <message>
      <source>Prepare raster</source>
      <translation>Preparar ráster</translation>
    </message>
    <message>
      <source>Prepares a raster, so that clicks on it are answered at once. The result is a folder NAME.embeddings.zarr beside the raster, where the panel and the other algorithms find it, or in another folder.

If you cancel, the tiles prepared so far are kept; run it again to continue. With an area of interest, only tiles that touch it are prepared; others may follow later.

Enlarged detail is for objects of less than 100 pixels. 200 % takes 4 times more tiles, 400 % 20 times more, so choose an area of interest.

The model is that of the options of GeoSAM-ES. Enter mini for the built-in one, or a folder made by geosam-es export --encoder.</source>
      <translation>Prepara un ráster para que los clics sobre él se respondan al momento. El resultado es una carpeta NOMBRE.embeddings.zarr junto al ráster, donde la encuentran el panel y los demás algoritmos, o en otra carpeta.

Si se cancela, las teselas ya preparadas se conservan; para continuar, ejecutarlo de nuevo. Con una zona de interés solo se preparan las teselas que la tocan; las demás se pueden preparar más adelante.

El detalle ampliado es para objetos de menos de 100 píxeles. Con 200 % hay 4 veces más teselas y con 400 %, 20 veces más, así que conviene elegir una zona de interés.

El modelo es el de las opciones de GeoSAM-ES. Escribir mini para usar el modelo incluido, o indicar una carpeta creada por geosam-es export --encoder.</translation>
    </message>
    <message>
      <source>As the image (100 %)</source>
      <translation>Como la imagen (100 %)</translation>
    </message>
    <message>
      <source>Enlarged too (200 %)</source>
      <translation>También ampliada (200 %)</translation>
    </message>
    <message>
      <source>Enlarged too (400 %)</source>
      <translation>También ampliada (400 %)</translation>
    </message>
    <message>
      <source>Finest detail</source>
      <translation>Detalle más fino</translation>
    </message>
    <message>
      <source>Prepare what is missing</source>
      <translation>Preparar lo que falta</translation>
    </message>
    <message>
      <source>Prepare all of it anew</source>
      <translation>Prepararlo todo de nuevo</translation>
    </message>
    <message>
      <source>If the raster has been prepared before</source>
      <translation>Si el ráster ya se había preparado</translation>
    </message>
    <message>
      <source>16 bits</source>
      <translation>16 bits</translation>
    </message>
    <message>
      <source>8 bits: half the disk space, outlines move slightly</source>
      <translation>8 bits: ocupa la mitad en disco, los contornos se mueven un poco</translation>
    </message>
    <message>
      <source>Precision</source>
      <translation>Precisión</translation>
    </message>
    <message>
      <source>Model folder (by default that of the options)</source>
      <translation>Carpeta del modelo (por defecto, la de las opciones)</translation>
    </message>
    <message>
      <source>Folder (by default that of the raster)</source>
      <translation>Carpeta (por defecto, la del ráster)</translation>
    </message>
    <message>
      <source>Stopped before the first tile was prepared. Nothing was changed.</source>
      <translation>Se ha detenido antes de preparar la primera tesela. No se ha cambiado nada.</translation>
    </message>
    <message>
      <source>{name} has no data there</source>
      <translation>{name} no tiene datos ahí</translation>
    </message>
    <message>
      <source>check the image, its nodata value and the area of interest</source>
      <translation>comprobar la imagen, su valor sin datos y la zona de interés</translation>
    </message>
    <message>
      <source>The model variants of the older prepared image belong to another model and are now in {folder}</source>
      <translation>Las variantes del modelo de la imagen preparada anterior son de otro modelo y ahora están en {folder}</translation>
    </message>
    <message>
      <source>The prepared image takes {size} MB: {path}</source>
      <translation>La imagen preparada ocupa {size} MB: {path}</translation>
    </message>
    <message>
      <source>{name} lies in no folder</source>
      <translation>{name} no está en ninguna carpeta</translation>
    </message>
    <message>
      <source>choose a folder for the result</source>
      <translation>elegir una carpeta para el resultado</translation>
    </message>
    <message>
      <source>choose another folder, or prepare all of it anew</source>
      <translation>elegir otra carpeta o prepararlo todo de nuevo</translation>
    </message>
    <message>
      <source>choose another folder for the result</source>
      <translation>elegir otra carpeta para el resultado</translation>
    </message>
    <message>
      <source>Nothing is missing in {path}</source>
      <translation>No falta nada en {path}</translation>
    </message>
    <message>
      <source>{count} tiles of {name} are prepared, at most {size} MB, in {path}</source>
      <translation>Se preparan {count} teselas de {name}, como mucho {size} MB, en {path}</translation>
    </message>
    <message>
      <source>{path} cannot be started ({reason})</source>
      <translation>No se puede iniciar {path} ({reason})</translation>
    </message>
    <message>
      <source>choose another command in the options of GeoSAM-ES</source>
      <translation>elegir otra orden en las opciones de GeoSAM-ES</translation>
    </message>
    <message>
      <source>GeoSAM-ES is not installed in the Python {path}</source>
      <translation>GeoSAM-ES no está instalado en el Python {path}</translation>
    </message>
    <message>
      <source>The geosam-es command ended without a result: see the log</source>
      <translation>La orden geosam-es ha terminado sin resultado: consultar el registro</translation>
    </message>
    <message>
      <source>Candidate masks to keep</source>
      <translation>Máscaras alternativas que se conservan</translation>
    </message>
    <message>
      <source>Drop parts smaller than (m²)</source>
      <translation>Eliminar las partes menores de (m²)</translation>
    </message>
    <message>
      <source>Fill holes smaller than (m²)</source>
      <translation>Rellenar los agujeros menores de (m²)</translation>
    </message>
    <message>
      <source>Size of the objects (m), instead of the level of detail</source>
      <translation>Tamaño de los objetos (m), en lugar del nivel de detalle</translation>
    </message>
    <message>
      <source>Scale of the map, instead of the level of detail</source>
      <translation>Escala del mapa, en lugar del nivel de detalle</translation>
    </message>
    <message>
      <source>CRS of the polygons (by default that of the raster)</source>
      <translation>SRC de los polígonos (por defecto, el del ráster)</translation>
    </message>
    <message>
      <source>Give the scale of the map or the size of the objects, not both.</source>
      <translation>Indicar la escala del mapa o el tamaño de los objetos, no los dos.</translation>
    </message>
    <message>
      <source>objects of {layer}</source>
      <translation>objetos de {layer}</translation>
    </message>
    <message>
      <source>{layer} updated</source>
      <translation>{layer} (actualizada)</translation>
    </message>
    <message>
      <source>Finest level of detail: {level}</source>
      <translation>Nivel de detalle más fino: {level}</translation>
    </message>
    <message>
      <source>The prepared image has no level {level}; its finest level, {finest}, is used. The algorithm Prepare raster adds enlarged levels.</source>
      <translation>La imagen preparada no tiene el nivel {level}; se usa el más fino que tiene, {finest}. El algoritmo Preparar ráster añade niveles ampliados.</translation>
    </message>
    <message>
      <source>Segment from points</source>
      <translation>Segmentar a partir de puntos</translation>
    </message>
    <message>
      <source>Draws the polygon of the object at each point of a layer. Choose a raster: its tiles under the points are prepared first, and kept for the next time. Or choose the folder of a prepared image.

Points with the same value in the object field belong to one object; without that field each point is one object. The label field separates positive points (1) from negative points (0). Fields named object and label are used by default. The points may have any CRS. The polygons get the other attributes of the first point, and the style of the layer if it shows classes.

Of the masks that fit, keep the one with the highest score, the one with a rank, or all; then the field candidate has the rank.

For small or large objects, set the level of detail, or else the size of the objects in metres or the scale of a map on which you would click them. Objects of less than 100 pixels need enlarged levels.

Points outside the raster, without data or on tiles that cannot be prepared are listed in the log. Areas are measured on the ellipsoid.</source>
      <translation>Dibuja el polígono del objeto que hay en cada punto de una capa. Elegir un ráster: primero se preparan las teselas que hay bajo los puntos, y se conservan para la próxima vez. O bien elegir la carpeta de una imagen preparada.

Los puntos con el mismo valor en el campo de objeto pertenecen al mismo objeto; sin ese campo, cada punto es un objeto. El campo de etiqueta distingue los puntos dentro (1) de los puntos fuera (0) del objeto. Por defecto se usan los campos llamados object y label. Los puntos pueden estar en cualquier SRC. Los polígonos reciben los demás atributos del primer punto y, si la capa muestra clases, su estilo.

De las máscaras posibles se conserva la de mayor puntuación, la de un orden determinado o todas; en ese caso el campo candidate indica el orden.

Para objetos pequeños o grandes, indicar el nivel de detalle o, en su lugar, el tamaño de los objetos en metros o la escala de un mapa en el que se haría clic sobre ellos. Los objetos de menos de 100 píxeles necesitan niveles ampliados.

Los puntos que quedan fuera del ráster, sin datos o en teselas que no se pueden preparar aparecen en el registro. Las superficies se miden sobre el elipsoide.</translation>
    </message>
    <message>
      <source>Points</source>
      <translation>Puntos</translation>
    </message>
    <message>
      <source>Object field</source>
      <translation>Campo de objeto</translation>
    </message>
    <message>
      <source>Label field</source>
      <translation>Campo de etiqueta</translation>
    </message>
    <message>
      <source>Segment from boxes</source>
      <translation>Segmentar a partir de recuadros</translation>
    </message>
    <message>
      <source>Draws the polygon of the object in the bounding box of each feature, which may be a rough outline, in any CRS. Choose a raster: its tiles under the boxes are prepared first, and kept for the next time. Or choose the folder of a prepared image.

The object field identifies the objects in the output. A field named object is used by default, or else the feature id. The polygons get the other attributes of the feature.

The size of a box chooses its level of detail. Boxes of less than 100 pixels get enlarged levels if the image has them.

Boxes outside the raster, without data or on tiles that cannot be prepared are listed in the log. Areas are measured on the ellipsoid.</source>
      <translation>Dibuja el polígono del objeto que hay en el rectángulo envolvente de cada objeto espacial, que puede ser un contorno aproximado, en cualquier SRC. Elegir un ráster: primero se preparan las teselas que hay bajo los recuadros, y se conservan para la próxima vez. O bien elegir la carpeta de una imagen preparada.

El campo de objeto identifica los objetos en la salida. Por defecto se usa un campo llamado object o, si no lo hay, el id del objeto espacial. Los polígonos reciben los demás atributos del objeto espacial.

El tamaño de un recuadro determina su nivel de detalle. Los recuadros de menos de 100 píxeles usan niveles ampliados si la imagen los tiene.

Los recuadros que quedan fuera del ráster, sin datos o en teselas que no se pueden preparar aparecen en el registro. Las superficies se miden sobre el elipsoide.</translation>
    </message>
    <message>
      <source>Boxes or polygons</source>
      <translation>Recuadros o polígonos</translation>
    </message>
    <message>
      <source>Update polygons</source>
      <translation>Actualizar polígonos</translation>
    </message>
    <message>
      <source>Finds the objects of an older layer of polygons on a newer image. Choose the newer raster, or the folder of its prepared image. The tiles under the polygons are prepared first, and kept for the next time.

The output has the new outline of each polygon, its IoU with the old one, and a verdict: same, moved, changed or gone. Polygons that are the same or gone keep their vertices, a moved one its shape, and a changed one the vertices where its border differs by less than the tolerance. The other attributes are copied.

An object is the same or moved if the IoU, in its place or displaced, reaches the first threshold. It is gone if the score of the model is below the second one.

If the model draws an object differently from you, the object may be called changed or gone. With the prepared older image, the outlines that the model draws on both images are compared. This avoids most of these errors.</source>
      <translation>Busca en una imagen más reciente los objetos de una capa de polígonos antigua. Elegir el ráster más reciente o la carpeta de su imagen preparada. Primero se preparan las teselas que hay bajo los polígonos, y se conservan para la próxima vez.

El resultado tiene el nuevo contorno de cada polígono, su IoU con el antiguo y un dictamen (campo verdict): igual (same), desplazado (moved), modificado (changed) o desaparecido (gone). Los polígonos iguales o desaparecidos conservan sus vértices; los desplazados, su forma; y los modificados, los vértices donde el borde difiere menos que la tolerancia. Los demás atributos se copian.

Un objeto está igual o desplazado si el IoU, en su sitio o en otro cercano, alcanza el primer umbral. Ha desaparecido si la puntuación del modelo no llega al segundo.

Si el modelo dibuja un objeto de otra manera que el intérprete, puede darlo por modificado o desaparecido. Con la imagen antigua preparada, se comparan los contornos que el modelo dibuja en ambas imágenes, y así se evita la mayoría de estos errores.</translation>
    </message>
    <message>
      <source>Old polygons</source>
      <translation>Polígonos antiguos</translation>
    </message>
    <message>
      <source>Minimum IoU of an unchanged object</source>
      <translation>IoU mínimo de un objeto sin cambios</translation>
    </message>
    <message>
      <source>Minimum score of an object that is not gone</source>
      <translation>Puntuación mínima de un objeto que no ha desaparecido</translation>
    </message>
    <message>
      <source>Tolerance for borders (pixels)</source>
      <translation>Tolerancia de los bordes (píxeles)</translation>
    </message>
    <message>
      <source>Folder of the prepared older image, in the same CRS</source>
      <translation>Carpeta de la imagen antigua preparada, en el mismo SRC</translation>
    </message>
    <message>
      <source>The older image has another CRS</source>
      <translation>La imagen antigua tiene otro SRC</translation>
    </message>
    <message>
      <source>prepare it in the CRS of the newer one</source>
      <translation>prepararla en el SRC de la más reciente</translation>
    </message>
    <message>
      <source>Skipped object {object}: {reason}</source>
      <translation>Objeto {object} omitido: {reason}</translation>
    </message>
    <message>
      <source>{count} of {total} objects were skipped.</source>
      <translation>{count} de {total} objetos omitidos.</translation>
    </message>
    <message>
      <source>Skipped feature {id}: it has no geometry or lies outside the CRS of the raster</source>
      <translation>Objeto espacial {id} omitido: no tiene geometría o queda fuera del SRC del ráster</translation>
    </message>
    <message>
      <source>{source} has coordinates such as ({x:.8g}, {y:.8g}), which are not longitude and latitude</source>
      <translation>{source} tiene coordenadas como ({x:.8g}, {y:.8g}), que no son longitud y latitud</translation>
    </message>
    <message>
      <source>set the CRS that they are in, in the properties of the layer</source>
      <translation>asignar el SRC en el que están, en las propiedades de la capa</translation>
    </message>
    <message>
      <source>The one with rank {rank}</source>
      <translation>La de orden {rank}</translation>
    </message>
    <message>
      <source>The one with the highest score</source>
      <translation>La de mayor puntuación</translation>
    </message>
    <message>
      <source>All</source>
      <translation>Todas</translation>
    </message>
    <message>
      <source>The mask is empty or smaller than the minimum area</source>
      <translation>La máscara está vacía o es menor que la superficie mínima</translation>
    </message>
    <message>
      <source>Finds the other objects of an image that look like the examples. A few polygons of one kind are enough. Choose a raster: all its tiles are prepared first, and kept for the next time. Or choose the folder of a prepared image.

Each polygon has its likeness to the examples, from 0 to 1, the score of the model and its area. A lower minimum likeness finds more objects, and more that are wrong.

To improve the result, copy correct polygons to the examples and wrong ones to the counterexamples, and run the algorithm again.</source>
      <translation>Busca los demás objetos de una imagen que se parecen a los ejemplos. Bastan unos pocos polígonos de un mismo tipo. Elegir un ráster: primero se preparan todas sus teselas, y se conservan para la próxima vez. O bien elegir la carpeta de una imagen preparada.

Cada polígono tiene su parecido con los ejemplos (campo likeness), de 0 a 1, la puntuación del modelo y su superficie. Con un parecido mínimo más bajo se encuentran más objetos, pero también más erróneos.

Para mejorar el resultado, copiar los polígonos correctos a los ejemplos y los erróneos a los contraejemplos, y ejecutar el algoritmo de nuevo.</translation>
    </message>
    <message>
      <source>Examples</source>
      <translation>Ejemplos</translation>
    </message>
    <message>
      <source>Counterexamples, such as rejected polygons</source>
      <translation>Contraejemplos, como los polígonos rechazados</translation>
    </message>
    <message>
      <source>Minimum likeness</source>
      <translation>Parecido mínimo</translation>
    </message>
    <message>
      <source>similar objects</source>
      <translation>objetos parecidos</translation>
    </message>
    <message>
      <source>Replace an earlier result in the output folder (--overwrite)</source>
      <translation>Sustituir un resultado anterior en la carpeta de salida (--overwrite)</translation>
    </message>
    <message>
      <source>The same command in a terminal:</source>
      <translation>La misma orden en una terminal:</translation>
    </message>
    <message>
      <source>check that the file exists</source>
      <translation>comprobar que el archivo existe</translation>
    </message>
    <message>
      <source>{path} is not a class list</source>
      <translation>{path} no es una lista de clases</translation>
    </message>
    <message>
      <source>write one line for each class with its code, name and colour</source>
      <translation>escribir una línea por clase con su código, nombre y color</translation>
    </message>
    <message>
      <source>no class</source>
      <translation>sin clase</translation>
    </message>
    <message>
      <source>{path} is neither the geosam-es command nor a Python in which it is installed</source>
      <translation>{path} no es la orden geosam-es ni un Python en el que esté instalada</translation>
    </message>
    <message>
      <source>The geosam-es command was not found on this computer</source>
      <translation>No se ha encontrado la orden geosam-es en este equipo</translation>
    </message>
    <message>
      <source>install it as the log says, or enter its path in Settings &gt; Options &gt; GeoSAM-ES</source>
      <translation>instalarla como indica el registro o indicar su ruta en Configuración &gt; Opciones &gt; GeoSAM-ES</translation>
    </message>
    <message>
      <source>geosam-es is a separate program. It needs PyTorch, which must not be installed in QGIS, and so a Python of its own: version 3.9 or later, from python.org or your system.</source>
      <translation>geosam-es es un programa aparte de QGIS. Necesita PyTorch, que no debe instalarse en QGIS, y por eso un Python propio: versión 3.9 o posterior, de python.org o del sistema.</translation>
    </message>
    <message>
      <source>Get the source code of GeoSAM-ES and type in a terminal (on Windows, the Command Prompt), with the folder of the source code in place of FOLDER:</source>
      <translation>Obtener el código fuente de GeoSAM-ES y escribir en una terminal (en Windows, el símbolo del sistema), con la carpeta del código fuente en lugar de FOLDER:</translation>
    </message>
    <message>
      <source>Without network: on a computer with network, the same system and the same version of Python, type the first command. Copy the folder wheels that it makes to this computer, and type the others beside it:</source>
      <translation>Sin conexión: en un equipo con conexión, con el mismo sistema y la misma versión de Python, escribir la primera orden. Copiar a este equipo la carpeta wheels que se crea y escribir junto a ella las demás órdenes:</translation>
    </message>
    <message>
      <source>GeoSAM-ES finds it there. If you install it elsewhere, enter its path in Settings &gt; Options &gt; GeoSAM-ES &gt; Command line.</source>
      <translation>GeoSAM-ES lo encuentra ahí. Si se instala en otro sitio, indicar su ruta en Configuración &gt; Opciones &gt; GeoSAM-ES &gt; Línea de órdenes.</translation>
    </message>
    <message>
      <source>Coordinates cannot be transformed from the CRS {source} to {target}</source>
      <translation>No se pueden transformar coordenadas del SRC {source} a {target}</translation>
    </message>
    <message>
      <source>check the CRS of the raster and of the layer</source>
      <translation>comprobar el SRC del ráster y el de la capa</translation>
    </message>
    <message>
      <source>This place cannot be transformed to the CRS of the raster</source>
      <translation>Este lugar no se puede transformar al SRC del ráster</translation>
    </message>
    <message>
      <source>click on the raster</source>
      <translation>hacer clic sobre el ráster</translation>
    </message>
    <message>
      <source>The CRS {name} is not a CRS for maps</source>
      <translation>El SRC {name} no es un SRC para mapas</translation>
    </message>
    <message>
      <source>choose another CRS</source>
      <translation>elegir otro SRC</translation>
    </message>
    <message>
      <source>The polygon cannot be transformed to the CRS {name}</source>
      <translation>El polígono no se puede transformar al SRC {name}</translation>
    </message>
    <message>
      <source>The area of the polygon cannot be measured in the CRS {name}</source>
      <translation>No se puede medir la superficie del polígono en el SRC {name}</translation>
    </message>
    <message>
      <source>Missing Python packages: {names}</source>
      <translation>Faltan paquetes de Python: {names}</translation>
    </message>
    <message>
      <source>press Install to replace it, then restart QGIS</source>
      <translation>pulsar Instalar para sustituirlo y reiniciar QGIS</translation>
    </message>
    <message>
      <source>install the Microsoft Visual C++ Redistributable 2019 or later, then restart QGIS</source>
      <translation>instalar Microsoft Visual C++ Redistributable 2019 o posterior y reiniciar QGIS</translation>
    </message>
    <message>
      <source>The field {field} is chosen more than once</source>
      <translation>El campo {field} se ha elegido más de una vez</translation>
    </message>
    <message>
      <source>choose another field</source>
      <translation>elegir otro campo</translation>
    </message>
    <message>
      <source>The field {field} of {layer} is joined or computed, so nothing can be written to it</source>
      <translation>El campo {field} de {layer} viene de una unión o se calcula, así que no se puede escribir en él</translation>
    </message>
    <message>
      <source>Add fields</source>
      <translation>Añadir campos</translation>
    </message>
    <message>
      <source>The field {field} cannot be added to {layer}</source>
      <translation>No se puede añadir el campo {field} a {layer}</translation>
    </message>
    <message>
      <source>choose a field of the layer, or a name of up to 10 letters and digits</source>
      <translation>elegir un campo de la capa o un nombre de hasta 10 letras y cifras</translation>
    </message>
    <message>
      <source>{path} has signed 8-bit values, which this version of GDAL cannot read</source>
      <translation>{path} tiene valores de 8 bits con signo, que esta versión de GDAL no puede leer</translation>
    </message>
    <message>
      <source>convert it with gdal_translate -ot Int16</source>
      <translation>convertirlo con gdal_translate -ot Int16</translation>
    </message>
    <message>
      <source>The Python interpreter of QGIS was not found</source>
      <translation>No se ha encontrado el intérprete de Python de QGIS</translation>
    </message>
    <message>
      <source>install QGIS with its Python, then try again</source>
      <translation>instalar QGIS con su Python e intentarlo de nuevo</translation>
    </message>
    <message>
      <source>Reading {name}</source>
      <translation>Leyendo {name}</translation>
    </message>
    <message>
      <source>{path} is not the Python interpreter of this QGIS</source>
      <translation>{path} no es el intérprete de Python de este QGIS</translation>
    </message>
    <message>
      <source>{path} is not a zip that can be unpacked</source>
      <translation>{path} no es un zip que se pueda descomprimir</translation>
    </message>
    <message>
      <source>copy it again</source>
      <translation>copiarlo de nuevo</translation>
    </message>
    <message>
      <source>There are no Python wheels in {path}</source>
      <translation>En {path} no hay paquetes de Python (wheels)</translation>
    </message>
    <message>
      <source>choose a folder or zip made with: {command}</source>
      <translation>elegir una carpeta o un zip hechos con: {command}</translation>
    </message>
    <message>
      <source>The Python of QGIS comes without pip</source>
      <translation>El Python de QGIS viene sin pip</translation>
    </message>
    <message>
      <source>install pip (on Debian and Ubuntu: sudo apt install python3-pip), or install from a zip made with: {command}</source>
      <translation>instalar pip (en Debian y Ubuntu: sudo apt install python3-pip) o instalar desde un zip hecho con: {command}</translation>
    </message>
    <message>
      <source>Checking the packages</source>
      <translation>Comprobando los paquetes</translation>
    </message>
    <message>
      <source>The new packages make Python crash ({reason})</source>
      <translation>Los paquetes nuevos hacen que Python falle ({reason})</translation>
    </message>
    <message>
      <source>try again, or install from a zip made with: {command}</source>
      <translation>intentarlo de nuevo o instalar desde un zip hecho con: {command}</translation>
    </message>
    <message>
      <source>replace {file} by the wheel from a zip made with: {command}</source>
      <translation>sustituir {file} por el paquete (wheel) de un zip hecho con: {command}</translation>
    </message>
    <message>
      <source>A wheel in {path} is damaged or has been changed: its hash is not the listed one</source>
      <translation>Un paquete de {path} está dañado o modificado: su hash no coincide con el de la lista</translation>
    </message>
    <message>
      <source>The package index cannot be reached</source>
      <translation>No se puede acceder al índice de paquetes</translation>
    </message>
    <message>
      <source>check the network and the proxy in the options of QGIS, or install from a folder or zip of wheels</source>
      <translation>comprobar la conexión y el proxy en las opciones de QGIS, o instalar desde una carpeta o un zip de paquetes (wheels)</translation>
    </message>
    <message>
      <source>There is no wheel of {name} for Python {python} on {platform}</source>
      <translation>No hay paquete (wheel) de {name} para Python {python} en {platform}</translation>
    </message>
    <message>
      <source>make a zip with: {command}</source>
      <translation>hacer un zip con: {command}</translation>
    </message>
    <message>
      <source>pip cannot install the packages ({reason})</source>
      <translation>pip no puede instalar los paquetes ({reason})</translation>
    </message>
    <message>
      <source>the log has its whole output</source>
      <translation>el registro tiene toda su salida</translation>
    </message>
    <message>
      <source>The packages cannot be written to {path} ({reason})</source>
      <translation>No se pueden escribir los paquetes en {path} ({reason})</translation>
    </message>
    <message>
      <source>restart QGIS, then try again</source>
      <translation>reiniciar QGIS e intentarlo de nuevo</translation>
    </message>
    <message>
      <source>see the log</source>
      <translation>consultar el registro</translation>
    </message>
    <message>
      <source>{name} is not a raster layer</source>
      <translation>{name} no es una capa ráster</translation>
    </message>
    <message>
      <source>choose an orthophoto</source>
      <translation>elegir una ortofoto</translation>
    </message>
    <message>
      <source>{name} comes from a service ({provider}) that cannot be read here</source>
      <translation>{name} procede de un servicio ({provider}) que aquí no se puede leer</translation>
    </message>
    <message>
      <source>add it by WMS, WMTS or XYZ, or save it as a GeoTIFF with Export &gt; Save As and use that file</source>
      <translation>añadirla por WMS, WMTS o XYZ, o guardarla como GeoTIFF con Exportar &gt; Guardar como y usar ese archivo</translation>
    </message>
    <message>
      <source>{root} cannot be written ({reason})</source>
      <translation>No se puede escribir en {root} ({reason})</translation>
    </message>
    <message>
      <source>The image of this place has not been fetched yet</source>
      <translation>Aún no se ha descargado la imagen de este lugar</translation>
    </message>
    <message>
      <source>click on it</source>
      <translation>hacer clic en él</translation>
    </message>
    <message>
      <source>prepare the view instead</source>
      <translation>preparar la vista en su lugar</translation>
    </message>
    <message>
      <source>{name} comes from an online service, whose images must not be downloaded as a whole</source>
      <translation>{name} procede de un servicio en línea, cuyas imágenes no se deben descargar enteras</translation>
    </message>
    <message>
      <source>{path} is no longer there</source>
      <translation>{path} ya no existe</translation>
    </message>
    <message>
      <source>{folder} is not a model folder: it has no {name}</source>
      <translation>{folder} no es una carpeta de modelo: no contiene {name}</translation>
    </message>
    <message>
      <source>choose a folder made by geosam-es export --encoder</source>
      <translation>elegir una carpeta creada por geosam-es export --encoder</translation>
    </message>
    <message>
      <source>click on an image with the tool of GeoSAM-ES, press Install in the message, and restart QGIS</source>
      <translation>hacer clic en una imagen con la herramienta de GeoSAM-ES, pulsar Instalar en el mensaje y reiniciar QGIS</translation>
    </message>
    <message>
      <source>raster size</source>
      <translation>tamaño del ráster</translation>
    </message>
    <message>
      <source>raster fingerprint</source>
      <translation>huella digital del ráster</translation>
    </message>
    <message>
      <source>raster transform</source>
      <translation>georreferencia del ráster</translation>
    </message>
    <message>
      <source>model</source>
      <translation>modelo</translation>
    </message>
    <message>
      <source>{name} has no tiles</source>
      <translation>{name} no tiene teselas</translation>
    </message>
    <message>
      <source>add it again in QGIS's Data Source Manager</source>
      <translation>añadirla de nuevo en el Administrador de fuentes de datos de QGIS</translation>
    </message>
    <message>
      <source>{name} cannot be read: its service is not there any more (HTTP 404)</source>
      <translation>No se puede leer {name}: su servicio ya no existe (HTTP 404)</translation>
    </message>
    <message>
      <source>check the layer in QGIS's Data Source Manager</source>
      <translation>comprobar la capa en el Administrador de fuentes de datos de QGIS</translation>
    </message>
    <message>
      <source>The service of {name} sent something that is not an image</source>
      <translation>El servicio de {name} ha enviado algo que no es una imagen</translation>
    </message>
    <message>
      <source>try again in a moment, or choose another image format for the layer</source>
      <translation>intentarlo de nuevo en un momento o elegir otro formato de imagen para la capa</translation>
    </message>
    <message>
      <source>check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in QGIS's options (System, Environment) or your profile of AWS, and their rights</source>
      <translation>comprobar AWS_ACCESS_KEY_ID y AWS_SECRET_ACCESS_KEY en las opciones de QGIS (Sistema, Entorno) o en su perfil de AWS, y sus permisos</translation>
    </message>
    <message>
      <source>set AWS_REGION to the region of the bucket in QGIS's options (System, Environment)</source>
      <translation>poner en AWS_REGION la región del bucket, en las opciones de QGIS (Sistema, Entorno)</translation>
    </message>
    <message>
      <source>check the address, and that the server shows it to everybody</source>
      <translation>comprobar la dirección y que el servidor permite el acceso público</translation>
    </message>
    <message>
      <source>{name} has more than {count} bytes</source>
      <translation>{name} tiene más de {count} bytes</translation>
    </message>
    <message>
      <source>check the address of the prepared image</source>
      <translation>comprobar la dirección de la imagen preparada</translation>
    </message>
    <message>
      <source>{name} cannot be read: GDAL has no keys of AWS ({reason})</source>
      <translation>No se puede leer {name}: GDAL no tiene claves de AWS ({reason})</translation>
    </message>
    <message>
      <source>set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in QGIS's options (System, Environment), or AWS_NO_SIGN_REQUEST to YES for a public bucket</source>
      <translation>poner AWS_ACCESS_KEY_ID y AWS_SECRET_ACCESS_KEY en las opciones de QGIS (Sistema, Entorno), o AWS_NO_SIGN_REQUEST con el valor YES si el bucket es público</translation>
    </message>
    <message>
      <source>{name} does not show images that can be segmented</source>
      <translation>{name} no muestra imágenes que se puedan segmentar</translation>
    </message>
    <message>
      <source>choose an orthophoto: a file, or a layer of a WMS, WMTS or XYZ service</source>
      <translation>elegir una ortofoto: un archivo, o una capa de un servicio WMS, WMTS o XYZ</translation>
    </message>
    <message>
      <source>{name} cannot be read: its service does not describe itself</source>
      <translation>No se puede leer {name}: su servicio no da su descripción</translation>
    </message>
    <message>
      <source>try again in a moment</source>
      <translation>intentarlo de nuevo en un momento</translation>
    </message>
    <message>
      <source>{name} is no longer among the layers of its service</source>
      <translation>{name} ya no está entre las capas de su servicio</translation>
    </message>
    <message>
      <source>{host} sent a message in place of an image of {name}: {text}</source>
      <translation>{host} ha enviado un mensaje en lugar de una imagen de {name}: {text}</translation>
    </message>
    <message>
      <source>try again in a moment, or check the layer in QGIS's Data Source Manager</source>
      <translation>intentarlo de nuevo en un momento o comprobar la capa en el Administrador de fuentes de datos de QGIS</translation>
    </message>
    <message>
      <source>The limit of requests per minute to {host} for {name} has been reached</source>
      <translation>Se ha alcanzado el límite de peticiones por minuto a {host} para {name}</translation>
    </message>
    <message>
      <source>go on in a minute</source>
      <translation>continuar dentro de un minuto</translation>
    </message>
    <message>
      <source>The reading of {name} was stopped</source>
      <translation>Se ha detenido la lectura de {name}</translation>
    </message>
    <message>
      <source>click again to go on</source>
      <translation>hacer clic de nuevo para continuar</translation>
    </message>
    <message>
      <source>{host} refuses to show {name} (HTTP {status})</source>
      <translation>{host} no permite ver {name} (HTTP {status})</translation>
    </message>
    <message>
      <source>check the authentication of the layer in QGIS's Data Source Manager</source>
      <translation>comprobar la autenticación de la capa en el Administrador de fuentes de datos de QGIS</translation>
    </message>
    <message>
      <source>{host} was asked for too many images of {name} (HTTP {status})</source>
      <translation>Se han pedido a {host} demasiadas imágenes de {name} (HTTP {status})</translation>
    </message>
    <message>
      <source>go on in a few minutes</source>
      <translation>continuar dentro de unos minutos</translation>
    </message>
    <message>
      <source>{name} cannot be read: {host} answered with an error (HTTP {status})</source>
      <translation>No se puede leer {name}: {host} ha respondido con un error (HTTP {status})</translation>
    </message>
    <message>
      <source>{name} cannot be read: {host} does not answer ({reason})</source>
      <translation>No se puede leer {name}: {host} no responde ({reason})</translation>
    </message>
    <message>
      <source>try again in a moment, or check the connection, and the proxy in QGIS's options</source>
      <translation>intentarlo de nuevo en un momento o comprobar la conexión, y el proxy en las opciones de QGIS</translation>
    </message>
    <message>
      <source>The prompts were not saved in {path}</source>
      <translation>No se han guardado las indicaciones en {path}</translation>
    </message>
    <message>
      <source>check that the file is writable and not open in another program</source>
      <translation>comprobar que se puede escribir en el archivo y que no está abierto en otro programa</translation>
    </message>
    <message>
      <source>The prepared image of {name} had the CRS {stored}. It now has the CRS of the layer, {crs}.</source>
      <translation>La imagen preparada de {name} tenía el SRC {stored}. Ahora tiene el SRC de la capa, {crs}.</translation>
    </message>
    <message>
      <source>{root} is no longer there</source>
      <translation>{root} ya no existe</translation>
    </message>
    <message>
      <source>choose the raster again</source>
      <translation>elegir de nuevo el ráster</translation>
    </message>
    <message>
      <source>The cache {folder} is full ({size:.3g} GiB)</source>
      <translation>La caché {folder} está llena ({size:.3g} GiB)</translation>
    </message>
    <message>
      <source>raise its limit in the options, or keep new prepared images beside their images</source>
      <translation>aumentar su límite en las opciones o guardar las imágenes preparadas nuevas junto a la imagen</translation>
    </message>
    <message>
      <source>{folder} is not a decoder: it has no {name}</source>
      <translation>{folder} no contiene una variante del modelo: falta {name}</translation>
    </message>
    <message>
      <source>choose a folder that geosam-es finetune wrote</source>
      <translation>elegir una carpeta escrita por geosam-es finetune</translation>
    </message>
    <message>
      <source>{path} is damaged ({reason})</source>
      <translation>{path} está dañado ({reason})</translation>
    </message>
    <message>
      <source>copy the decoder again</source>
      <translation>copiar de nuevo la variante del modelo</translation>
    </message>
    <message>
      <source>{path} cannot be read ({reason})</source>
      <translation>No se puede leer {path} ({reason})</translation>
    </message>
    <message>
      <source>check the file and its permissions</source>
      <translation>comprobar el archivo y sus permisos</translation>
    </message>
    <message>
      <source>{path} does not have the hash in {document}: it was changed or copied in part</source>
      <translation>{path} no tiene el hash que figura en {document}: se ha modificado o solo se copió en parte</translation>
    </message>
    <message>
      <source>{root} has no decoder {name}</source>
      <translation>{root} no tiene la variante del modelo {name}</translation>
    </message>
    <message>
      <source>choose one of: {names}</source>
      <translation>elegir una de estas: {names}</translation>
    </message>
    <message>
      <source>{path} is damaged</source>
      <translation>{path} está dañado</translation>
    </message>
    <message>
      <source>choose a decoder with: geosam-es decoder use</source>
      <translation>elegir una variante del modelo con: geosam-es decoder use</translation>
    </message>
    <message>
      <source>{root} has no {name}</source>
      <translation>{root} no contiene {name}</translation>
    </message>
    <message>
      <source>copy the store again, or put the file back with: geosam-es repair STORE</source>
      <translation>copiar de nuevo la imagen preparada, o reponer el archivo con: geosam-es repair IMAGEN_PREPARADA</translation>
    </message>
    <message>
      <source>The decoder {name} of {root} is damaged or incomplete</source>
      <translation>La variante del modelo {name} de {root} está dañada o incompleta</translation>
    </message>
    <message>
      <source>copy the store again, or use the original decoder with: geosam-es decoder use STORE original</source>
      <translation>copiar de nuevo la imagen preparada, o usar la variante original con: geosam-es decoder use IMAGEN_PREPARADA original</translation>
    </message>
    <message>
      <source>{name!r} cannot be the name of a decoder in a store</source>
      <translation>{name!r} no es un nombre válido para una variante del modelo</translation>
    </message>
    <message>
      <source>choose another name of letters, digits, spaces and - . _ with --name</source>
      <translation>elegir otro nombre con letras, cifras, espacios y - . _ con --name</translation>
    </message>
    <message>
      <source>{path} has its weights in another file</source>
      <translation>{path} tiene sus pesos en otro archivo</translation>
    </message>
    <message>
      <source>export it with its weights inside</source>
      <translation>exportarlo con los pesos incluidos</translation>
    </message>
    <message>
      <source>{folder} is a decoder for the encoder {other}, but {root} was made with the encoder {own}</source>
      <translation>{folder} es una variante del modelo {other}, pero {root} se preparó con el modelo {own}</translation>
    </message>
    <message>
      <source>use a store made with the same encoder, or tune a decoder on this store</source>
      <translation>usar una imagen preparada con el mismo modelo, o ajustar una variante con esta imagen</translation>
    </message>
    <message>
      <source>The original decoder of {root} cannot be removed</source>
      <translation>La variante original del modelo de {root} no se puede quitar</translation>
    </message>
    <message>
      <source>choose a decoder that was added</source>
      <translation>elegir una variante añadida</translation>
    </message>
    <message>
      <source>copy it to a folder that can be written, or change its permissions</source>
      <translation>copiarla a una carpeta en la que se pueda escribir, o cambiar sus permisos</translation>
    </message>
    <message>
      <source>{path} is a link, so that decoders would be written elsewhere</source>
      <translation>{path} es un enlace, y las variantes del modelo se escribirían en otro sitio</translation>
    </message>
    <message>
      <source>remove it</source>
      <translation>quitarlo</translation>
    </message>
    <message>
      <source>{url} is on a server, and only read from there</source>
      <translation>{url} está en un servidor, y desde ahí solo se puede leer</translation>
    </message>
    <message>
      <source>change the store where it lies, or copy all of it to this computer</source>
      <translation>modificar la imagen preparada en el servidor, o copiarla entera a este equipo</translation>
    </message>
    <message>
      <source>{root} is not an embedding store</source>
      <translation>{root} no es una imagen preparada</translation>
    </message>
    <message>
      <source>make one with: geosam-es encode IMAGE</source>
      <translation>preparar la imagen con: geosam-es encode IMAGEN</translation>
    </message>
    <message>
      <source>{root} is not an embedding store: it has no {name}</source>
      <translation>{root} no es una imagen preparada: no contiene {name}</translation>
    </message>
    <message>
      <source>choose a folder that geosam-es encode wrote, or encode again with --overwrite</source>
      <translation>elegir una carpeta escrita por geosam-es encode, o preparar de nuevo con --overwrite</translation>
    </message>
    <message>
      <source>{path} is damaged or was not written by GeoSAM-ES</source>
      <translation>{path} está dañado o no es de GeoSAM-ES</translation>
    </message>
    <message>
      <source>encode again with --overwrite</source>
      <translation>preparar de nuevo con --overwrite</translation>
    </message>
    <message>
      <source>{root} has format version {version}, and this GeoSAM-ES reads version {known}</source>
      <translation>{root} tiene la versión de formato {version}, y este GeoSAM-ES lee la versión {known}</translation>
    </message>
    <message>
      <source>update GeoSAM-ES, or encode again with --overwrite</source>
      <translation>actualizar GeoSAM-ES, o preparar de nuevo con --overwrite</translation>
    </message>
    <message>
      <source>{root} has the features of another program, whose contrast stretch is not known: no tile can be added</source>
      <translation>{root} contiene características de otro programa, cuyo realce de contraste no se conoce: no se pueden añadir teselas</translation>
    </message>
    <message>
      <source>encode the image into another store, or use this one as it is</source>
      <translation>preparar la imagen de nuevo en otra carpeta, o usar esta tal como está</translation>
    </message>
    <message>
      <source>{path} is missing or damaged</source>
      <translation>{path} falta o está dañado</translation>
    </message>
    <message>
      <source>copy the store again, or encode again</source>
      <translation>copiar de nuevo la imagen preparada, o volver a prepararla</translation>
    </message>
    <message>
      <source>{path} does not match the metadata of the store</source>
      <translation>{path} no coincide con los metadatos de la imagen preparada</translation>
    </message>
    <message>
      <source>encode again</source>
      <translation>preparar de nuevo la imagen</translation>
    </message>
    <message>
      <source>{file} is missing</source>
      <translation>Falta {file}</translation>
    </message>
    <message>
      <source>repair the store where it lies with: geosam-es repair STORE</source>
      <translation>reparar la imagen preparada en el servidor con: geosam-es repair IMAGEN_PREPARADA</translation>
    </message>
    <message>
      <source>{file} was changed after it was written: its checksum differs</source>
      <translation>{file} ha cambiado después de escribirse: su suma de comprobación no coincide</translation>
    </message>
    <message>
      <source>Tile {tile} of {root} cannot be read ({reason})</source>
      <translation>No se puede leer la tesela {tile} de {root} ({reason})</translation>
    </message>
    <message>
      <source>encode missing and damaged tiles with: geosam-es repair STORE</source>
      <translation>preparar las teselas que faltan o están dañadas con: geosam-es repair IMAGEN_PREPARADA</translation>
    </message>
    <message>
      <source>{path} has {count} values instead of {wanted}</source>
      <translation>{path} tiene {count} valores en lugar de {wanted}</translation>
    </message>
    <message>
      <source>encode it again with: geosam-es repair STORE</source>
      <translation>prepararla de nuevo con: geosam-es repair IMAGEN_PREPARADA</translation>
    </message>
    <message>
      <source>give the address of a folder NAME.embeddings.zarr</source>
      <translation>indicar la dirección de una carpeta NOMBRE.embeddings.zarr</translation>
    </message>
    <message>
      <source>{file} has {count} bytes instead of {wanted}</source>
      <translation>{file} tiene {count} bytes en lugar de {wanted}</translation>
    </message>
    <message>
      <source>try again; if it stays so, repair the store where it lies with: geosam-es repair STORE</source>
      <translation>volver a intentarlo; si sigue igual, reparar la imagen preparada en el servidor con: geosam-es repair IMAGEN_PREPARADA</translation>
    </message>
    <message>
      <source>copy the store again</source>
      <translation>copiar de nuevo la imagen preparada</translation>
    </message>
    <message>
      <source>{path} is not JSON, but perhaps a page of the server</source>
      <translation>{path} no es JSON, sino quizá una página del servidor</translation>
    </message>
    <message>
      <source>check the address, and whether the server wants a login</source>
      <translation>comprobar la dirección, y si el servidor pide iniciar sesión</translation>
    </message>
    <message>
      <source>{root} is the store of an online service, which is not read from a server</source>
      <translation>{root} es la imagen preparada de un servicio en línea, que no se lee desde un servidor</translation>
    </message>
    <message>
      <source>copy it to this computer</source>
      <translation>copiarla a este equipo</translation>
    </message>
    <message>
      <source>The cache {folder} cannot be written ({reason})</source>
      <translation>No se puede escribir en la caché {folder} ({reason})</translation>
    </message>
    <message>
      <source>{name} has shape {shape} instead of {wanted}</source>
      <translation>{name} tiene la forma {shape} en lugar de {wanted}</translation>
    </message>
    <message>
      <source>{name} of tile {tile} has values that are not finite</source>
      <translation>{name} de la tesela {tile} tiene valores que no son finitos</translation>
    </message>
    <message>
      <source>{root} was removed or replaced while it was being written</source>
      <translation>{root} se ha borrado o sustituido mientras se escribía</translation>
    </message>
    <message>
      <source>{root} already exists</source>
      <translation>{root} ya existe</translation>
    </message>
    <message>
      <source>continue with --resume, or start again with --overwrite</source>
      <translation>continuar con --resume o empezar de nuevo con --overwrite</translation>
    </message>
    <message>
      <source>check the free disk space and the permissions, or choose another folder with -o</source>
      <translation>comprobar el espacio libre en disco y los permisos, o elegir otra carpeta con -o</translation>
    </message>
    <message>
      <source>{root} exists and is not an embedding store</source>
      <translation>{root} ya existe y no es una imagen preparada</translation>
    </message>
    <message>
      <source>choose another name with -o</source>
      <translation>elegir otro nombre con -o</translation>
    </message>
  </context>
</TS>
