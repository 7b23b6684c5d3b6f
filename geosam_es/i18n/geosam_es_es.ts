<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE TS>
<TS version="2.1" language="es" sourcelanguage="en">
  <context>
    <name>GeoSAM-ES</name>
    <message>
      <source>The object has no positive point and no box</source>
      <translation>El objeto no tiene ningún punto positivo ni recuadro</translation>
    </message>
    <message>
      <source>add one of them</source>
      <translation>añadir uno de los dos</translation>
    </message>
    <message>
      <source>{store} was made with {key} = {stored!r}, not {wanted!r}</source>
      <translation>{store} se hizo con {key} = {stored!r}, no {wanted!r}</translation>
    </message>
    <message>
      <source>No prompts are kept with this polygon</source>
      <translation>Con este polígono no se guardaron indicaciones</translation>
    </message>
    <message>
      <source>draw it anew</source>
      <translation>dibujarlo de nuevo</translation>
    </message>
    <message>
      <source>No embedding store is open</source>
      <translation>No hay ningún almacén de embeddings abierto</translation>
    </message>
    <message>
      <source>open that of {name}</source>
      <translation>abrir el de {name}</translation>
    </message>
    <message>
      <source>This polygon was drawn on {name}</source>
      <translation>Este polígono se dibujó sobre {name}</translation>
    </message>
    <message>
      <source>open the store of it</source>
      <translation>abrir su almacén</translation>
    </message>
    <message>
      <source>Not one polygon is selected</source>
      <translation>No hay un único polígono seleccionado</translation>
    </message>
    <message>
      <source>select the one to refine in the target layer</source>
      <translation>seleccionar en la capa de destino el que se quiere refinar</translation>
    </message>
    <message>
      <source>The layer of this polygon is no longer there</source>
      <translation>La capa de este polígono ya no existe</translation>
    </message>
    <message>
      <source>discard it and draw it anew</source>
      <translation>descartarlo y dibujarlo de nuevo</translation>
    </message>
    <message>
      <source>Segment by clicking</source>
      <translation>Segmentar haciendo clic</translation>
    </message>
    <message>
      <source>Undo the last prompt</source>
      <translation>Deshacer la última indicación</translation>
    </message>
    <message>
      <source>Undo the last prompt (second shortcut)</source>
      <translation>Deshacer la última indicación (segundo atajo)</translation>
    </message>
    <message>
      <source>Redo the prompt</source>
      <translation>Rehacer la indicación</translation>
    </message>
    <message>
      <source>Next candidate: whole, part, sub-part</source>
      <translation>Siguiente candidato: el todo, una parte, una parte menor</translation>
    </message>
    <message>
      <source>Preview under the pointer</source>
      <translation>Vista previa bajo el puntero</translation>
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
      <source>Refine the selected polygon</source>
      <translation>Refinar el polígono seleccionado</translation>
    </message>
    <message>
      <source>Compare two decoders on each click</source>
      <translation>Comparar dos decodificadores en cada clic</translation>
    </message>
    <message>
      <source>Swap the two decoders: accept the other one's polygon</source>
      <translation>Intercambiar los dos decodificadores: aceptar el polígono del otro</translation>
    </message>
    <message>
      <source>Choose class {number}</source>
      <translation>Elegir la clase {number}</translation>
    </message>
    <message>
      <source>Class</source>
      <translation>Clase</translation>
    </message>
    <message>
      <source>The field that the class is written to</source>
      <translation>El campo en el que se escribe la clase</translation>
    </message>
    <message>
      <source>Read the classes from a CSV file with code, name and colour</source>
      <translation>Leer las clases de un archivo CSV con código, nombre y color</translation>
    </message>
    <message>
      <source>Class of the next polygons</source>
      <translation>Clase de los siguientes polígonos</translation>
    </message>
    <message>
      <source>List of classes</source>
      <translation>Lista de clases</translation>
    </message>
    <message>
      <source>Tables (*.csv *.txt *.tsv)</source>
      <translation>Tablas (*.csv *.txt *.tsv)</translation>
    </message>
    <message>
      <source>{path} cannot be read</source>
      <translation>No se puede leer {path}</translation>
    </message>
    <message>
      <source>check that it is there</source>
      <translation>comprobar que existe</translation>
    </message>
    <message>
      <source>{path} holds no list of classes</source>
      <translation>{path} no contiene ninguna lista de clases</translation>
    </message>
    <message>
      <source>it needs a line for each class with its code, name and colour</source>
      <translation>hace falta una línea por clase con su código, nombre y color</translation>
    </message>
    <message>
      <source>{path} is neither geosam-es, the command, nor a Python that has it</source>
      <translation>{path} no es ni geosam-es, la orden, ni un Python que la tenga</translation>
    </message>
    <message>
      <source>choose it again in the options of GeoSAM-ES</source>
      <translation>elegirlo de nuevo en las opciones de GeoSAM-ES</translation>
    </message>
    <message>
      <source>The command line of GeoSAM-ES is not installed on this computer, or not where it is looked for</source>
      <translation>La línea de órdenes de GeoSAM-ES no está instalada en este equipo, o no está donde se busca</translation>
    </message>
    <message>
      <source>the log says how to install it; or choose it in the options of GeoSAM-ES</source>
      <translation>el registro dice cómo instalarla; o elegirla en las opciones de GeoSAM-ES</translation>
    </message>
    <message>
      <source>This place does not exist in the raster's CRS</source>
      <translation>Este lugar no existe en el SRC del ráster</translation>
    </message>
    <message>
      <source>click on the raster</source>
      <translation>hacer clic sobre el ráster</translation>
    </message>
    <message>
      <source>The polygon has no place in the CRS {name}</source>
      <translation>El polígono no tiene lugar en el SRC {name}</translation>
    </message>
    <message>
      <source>check the CRS of the raster and of the layer</source>
      <translation>comprobar el SRC del ráster y el de la capa</translation>
    </message>
    <message>
      <source>Decoder</source>
      <translation>Decodificador</translation>
    </message>
    <message>
      <source>The decoder that answers; prompts already given are answered again</source>
      <translation>El decodificador que responde; las indicaciones ya dadas se responden de nuevo</translation>
    </message>
    <message>
      <source>The store has one decoder; the menu beside it adds one that was tuned on your own polygons</source>
      <translation>El almacén tiene un solo decodificador; el menú de al lado añade uno ajustado con sus propios polígonos</translation>
    </message>
    <message>
      <source>Compare with {name}</source>
      <translation>Comparar con {name}</translation>
    </message>
    <message>
      <source>Add a decoder, or keep the choice in the store</source>
      <translation>Añadir un decodificador, o guardar la elección en el almacén</translation>
    </message>
    <message>
      <source>Add a tuned decoder …</source>
      <translation>Añadir un decodificador ajustado …</translation>
    </message>
    <message>
      <source>Open this store with this decoder from now on</source>
      <translation>Abrir este almacén con este decodificador desde ahora</translation>
    </message>
    <message>
      <source>A decoder's folder, as geosam-es finetune writes it</source>
      <translation>La carpeta de un decodificador, como la escribe geosam-es finetune</translation>
    </message>
    <message>
      <source>original</source>
      <translation>inicial</translation>
    </message>
    <message>
      <source>The one that the store was made with</source>
      <translation>Aquel con el que se hizo el almacén</translation>
    </message>
    <message>
      <source>Tuned on {objects} objects, {created}</source>
      <translation>Ajustado con {objects} objetos, {created}</translation>
    </message>
    <message>
      <source>Not installed in QGIS's Python: {names}. Install with the plugin QPIP or with pip, then press the button again; no restart is needed.</source>
      <translation>Falta por instalar en el Python de QGIS: {names}. Se instala con el complemento QPIP o con pip; después basta pulsar el botón de nuevo, sin reiniciar QGIS.</translation>
    </message>
    <message>
      <source>In a terminal, on Windows the OSGeo4W shell:

{command}

On Debian and Ubuntu add --break-system-packages. The file keeps pip from replacing QGIS's own numpy.</source>
      <translation>En una terminal (en Windows, la consola de OSGeo4W):

{command}

En Debian y Ubuntu hay que añadir --break-system-packages. El archivo evita que pip sustituya el numpy propio de QGIS.</translation>
    </message>
    <message>
      <source>Click: inside · Shift+click: outside
Drag: box · Tab: next candidate
Right click: accept · Backspace: undo
Space or wheel: pan and zoom</source>
      <translation>Clic: dentro · Mayús+clic: fuera
Arrastrar: recuadro · Tab: siguiente candidato
Clic derecho: aceptar · Retroceso: deshacer
Espacio o rueda: desplazar y hacer zum</translation>
    </message>
    <message>
      <source>Footprint</source>
      <translation>Extensión</translation>
    </message>
    <message>
      <source>Show how far the store reaches</source>
      <translation>Mostrar hasta dónde llega el almacén</translation>
    </message>
    <message>
      <source>Tiles</source>
      <translation>Teselas</translation>
    </message>
    <message>
      <source>Show the tiles that answer at this scale; orange: not encoded</source>
      <translation>Mostrar las teselas que responden a esta escala; en naranja, las no codificadas</translation>
    </message>
    <message>
      <source>The polygon layer that accepted polygons are written to</source>
      <translation>La capa de polígonos en la que se escriben los polígonos aceptados</translation>
    </message>
    <message>
      <source>Open an embedding store (a folder NAME.embeddings.zarr)</source>
      <translation>Abrir un almacén de embeddings (una carpeta NOMBRE.embeddings.zarr)</translation>
    </message>
    <message>
      <source>Store</source>
      <translation>Almacén</translation>
    </message>
    <message>
      <source>New GeoPackage or Shapefile with class and provenance fields</source>
      <translation>Nuevo GeoPackage o Shapefile con campos de clase y procedencia</translation>
    </message>
    <message>
      <source>Layer</source>
      <translation>Capa</translation>
    </message>
    <message>
      <source>None</source>
      <translation>Ninguno</translation>
    </message>
    <message>
      <source>Drop a store here, or choose one</source>
      <translation>Soltar aquí un almacén, o elegir uno</translation>
    </message>
    <message>
      <source>Open an embedding store</source>
      <translation>Abrir un almacén de embeddings</translation>
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
      <source>choose another target layer</source>
      <translation>elegir otra capa de destino</translation>
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
      <source>The target layer is no longer there</source>
      <translation>La capa de destino ya no existe</translation>
    </message>
    <message>
      <source>The data of {name} cannot be reached</source>
      <translation>No se puede acceder a los datos de {name}</translation>
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
      <source>set it in the properties of the layer</source>
      <translation>asignarlo en las propiedades de la capa</translation>
    </message>
    <message>
      <source>{name} is read-only</source>
      <translation>{name} es de solo lectura</translation>
    </message>
    <message>
      <source>{name} takes no new polygons</source>
      <translation>{name} no admite polígonos nuevos</translation>
    </message>
    <message>
      <source>Add polygon</source>
      <translation>Añadir polígono</translation>
    </message>
    <message>
      <source>The polygon is no longer in {name}</source>
      <translation>El polígono ya no está en {name}</translation>
    </message>
    <message>
      <source>{name} does not let geometries be changed</source>
      <translation>{name} no permite cambiar geometrías</translation>
    </message>
    <message>
      <source>Refine polygon</source>
      <translation>Refinar polígono</translation>
    </message>
    <message>
      <source>{layer} has no field {field}</source>
      <translation>{layer} no tiene el campo {field}</translation>
    </message>
    <message>
      <source>choose the class field again</source>
      <translation>elegir de nuevo el campo de la clase</translation>
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
      <source>{layer} does not take this value of {field}: {reason}</source>
      <translation>{layer} no admite este valor de {field}: {reason}</translation>
    </message>
    <message>
      <source>choose a class, set a default value, or let the form be opened</source>
      <translation>elegir una clase, definir un valor predeterminado o dejar que se abra el formulario</translation>
    </message>
    <message>
      <source>{name} cannot be edited</source>
      <translation>{name} no se puede editar</translation>
    </message>
    <message>
      <source>check that its file can be written and that nobody else holds it</source>
      <translation>comprobar que se puede escribir en su archivo y que nadie más lo tiene abierto</translation>
    </message>
    <message>
      <source>{name} did not take the polygon</source>
      <translation>{name} no aceptó el polígono</translation>
    </message>
    <message>
      <source>see QGIS's log</source>
      <translation>consultar el registro de QGIS</translation>
    </message>
    <message>
      <source>{name} did not take the polygon: {reason}</source>
      <translation>{name} no aceptó el polígono: {reason}</translation>
    </message>
    <message>
      <source>give its fields values that the database takes, or choose another target layer</source>
      <translation>dar a sus campos valores que la base de datos acepte, o elegir otra capa de destino</translation>
    </message>
    <message>
      <source>see QGIS's log, and try again</source>
      <translation>consultar el registro de QGIS e intentarlo de nuevo</translation>
    </message>
    <message>
      <source>The model {name} of this store cannot encode here</source>
      <translation>El modelo {name} de este almacén no puede codificar aquí</translation>
    </message>
    <message>
      <source>go on with: geosam-es encode --resume</source>
      <translation>continuar con: geosam-es encode --resume</translation>
    </message>
    <message>
      <source>Encoding {name}</source>
      <translation>Codificando {name}</translation>
    </message>
    <message>
      <source>Encoding the view of {name}</source>
      <translation>Codificando la vista de {name}</translation>
    </message>
    <message>
      <source>{done} of {total} tiles, {time} left</source>
      <translation>{done} de {total} teselas, quedan {time}</translation>
    </message>
    <message>
      <source>Encoded</source>
      <translation>Codificación terminada</translation>
    </message>
    <message>
      <source>Stopped; what is encoded stays</source>
      <translation>Detenido; lo ya codificado se conserva</translation>
    </message>
    <message>
      <source>Encode this view</source>
      <translation>Codificar esta vista</translation>
    </message>
    <message>
      <source>Encode the tiles in view now, so that every click here is answered at once</source>
      <translation>Codificar ahora las teselas de la vista, para que cada clic en ella tenga respuesta inmediata</translation>
    </message>
    <message>
      <source>Encode this layer</source>
      <translation>Codificar esta capa</translation>
    </message>
    <message>
      <source>Encode the whole raster in the background; go on working meanwhile</source>
      <translation>Codificar el ráster entero en segundo plano; mientras tanto se puede seguir trabajando</translation>
    </message>
    <message>
      <source>Stop; what is encoded stays</source>
      <translation>Detener; lo ya codificado se conserva</translation>
    </message>
    <message>
      <source>Tiles can be added only to the store of a local raster, made by the model chosen in the options</source>
      <translation>Solo se pueden añadir teselas al almacén de un ráster local hecho con el modelo elegido en las opciones</translation>
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
      <source>Other polygons of {name} cover all of it</source>
      <translation>Otros polígonos de {name} lo cubren por completo</translation>
    </message>
    <message>
      <source>let overlaps be, or refine the other polygons</source>
      <translation>permitir los solapes o refinar los otros polígonos</translation>
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
      <source>Opening {name} …</source>
      <translation>Abriendo {name} …</translation>
    </message>
    <message>
      <source>choose a raster layer to click on, or open a store in the panel</source>
      <translation>elegir una capa ráster en la que hacer clic, o abrir un almacén en el panel</translation>
    </message>
    <message>
      <source>There is nothing to segment</source>
      <translation>No hay nada que segmentar</translation>
    </message>
    <message>
      <source>Click on a raster layer; or open its store, or drop it here.</source>
      <translation>Hacer clic sobre una capa ráster; o abrir su almacén, o soltarlo aquí.</translation>
    </message>
    <message>
      <source>{raster}, model {model}, {levels} levels</source>
      <translation>{raster}, modelo {model}, {levels} niveles</translation>
    </message>
    <message>
      <source>Written to {layer}; Ctrl+Z takes it back, saving the layer is up to you</source>
      <translation>Escrito en {layer}; Ctrl+Z lo deshace, y guardar la capa queda en manos del usuario</translation>
    </message>
    <message>
      <source>{name} is not a raster</source>
      <translation>{name} no es un ráster</translation>
    </message>
    <message>
      <source>choose an orthophoto</source>
      <translation>elegir una ortofoto</translation>
    </message>
    <message>
      <source>{name} comes from a service ({provider}), and only local files can be encoded</source>
      <translation>{name} procede de un servicio ({provider}), y solo se pueden codificar archivos locales</translation>
    </message>
    <message>
      <source>save it as a GeoTIFF with Export &gt; Save As, and use that</source>
      <translation>guardarlo como GeoTIFF con Exportar &gt; Guardar como y usar ese archivo</translation>
    </message>
    <message>
      <source>{name} is not a local file of its own</source>
      <translation>{name} no es un archivo local propio</translation>
    </message>
    <message>
      <source>{path} is no longer there</source>
      <translation>{path} ya no existe</translation>
    </message>
    <message>
      <source>choose the raster again</source>
      <translation>elegir de nuevo el ráster</translation>
    </message>
    <message>
      <source>{folder} is not a model folder: it has no {name}</source>
      <translation>{folder} no es una carpeta de modelo: no contiene {name}</translation>
    </message>
    <message>
      <source>choose a folder that geosam-es export --encoder made</source>
      <translation>elegir una carpeta hecha con geosam-es export --encoder</translation>
    </message>
    <message>
      <source>{root} cannot be written ({reason})</source>
      <translation>No se puede escribir en {root} ({reason})</translation>
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
      <source>Polygon options</source>
      <translation>Opciones del polígono</translation>
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
      <source>Largest distance by which an outline may move</source>
      <translation>Distancia máxima que puede desplazarse un contorno</translation>
    </message>
    <message>
      <source>Fill holes below</source>
      <translation>Rellenar huecos menores de</translation>
    </message>
    <message>
      <source>Smaller holes are filled</source>
      <translation>Los huecos más pequeños se rellenan</translation>
    </message>
    <message>
      <source>Minimum area</source>
      <translation>Superficie mínima</translation>
    </message>
    <message>
      <source>Smaller polygons are not written</source>
      <translation>Los polígonos más pequeños no se escriben</translation>
    </message>
    <message>
      <source>Snap within</source>
      <translation>Ajustar a menos de</translation>
    </message>
    <message>
      <source>Borders closer than this to those of the layer's polygons are moved onto them, in layer units</source>
      <translation>Los bordes más cercanos que esto a los de los polígonos de la capa se ajustan a ellos, en unidades de la capa</translation>
    </message>
    <message>
      <source>Right angles</source>
      <translation>Ángulos rectos</translation>
    </message>
    <message>
      <source>Make the corners of buildings square</source>
      <translation>Dejar en ángulo recto las esquinas de los edificios</translation>
    </message>
    <message>
      <source>No overlaps</source>
      <translation>Sin solapes</translation>
    </message>
    <message>
      <source>Cut off what existing polygons of the layer cover</source>
      <translation>Recortar lo que ya cubren los polígonos de la capa</translation>
    </message>
    <message>
      <source>Open the form</source>
      <translation>Abrir el formulario</translation>
    </message>
    <message>
      <source>Open the attribute form on accepting</source>
      <translation>Abrir el formulario de atributos al aceptar</translation>
    </message>
    <message>
      <source>Keep prompts in a table</source>
      <translation>Guardar las indicaciones en una tabla</translation>
    </message>
    <message>
      <source>In a GeoPackage whose layer has no fields for them, so that polygons can be refined later</source>
      <translation>En un GeoPackage cuya capa no tiene campos para ellas, de modo que los polígonos se puedan refinar más adelante</translation>
    </message>
    <message>
      <source>Of polygons without a class; a class has its own</source>
      <translation>De los polígonos sin clase; una clase tiene el suyo</translation>
    </message>
    <message>
      <source>Of the inside of the polygon being drawn</source>
      <translation>Del interior del polígono que se está dibujando</translation>
    </message>
    <message>
      <source>For stores opened from now on; automatic: one for each core</source>
      <translation>Para los almacenes que se abran a partir de ahora; automático: uno por núcleo</translation>
    </message>
    <message>
      <source>automatic</source>
      <translation>automático</translation>
    </message>
    <message>
      <source>the embedded model</source>
      <translation>el modelo incluido</translation>
    </message>
    <message>
      <source>A folder that geosam-es export --encoder made; encodes rasters without a store</source>
      <translation>Una carpeta hecha con geosam-es export --encoder; codifica los rásteres sin almacén</translation>
    </message>
    <message>
      <source>For stores of rasters whose folder cannot be written; the oldest go first</source>
      <translation>Para los almacenes de rásteres en cuya carpeta no se puede escribir; los más antiguos se eliminan primero</translation>
    </message>
    <message>
      <source>geosam-es, the command, or the Python that has it: it measures and tunes decoders, outside of QGIS</source>
      <translation>geosam-es, la orden, o el Python que la tiene: mide y ajusta decodificadores, fuera de QGIS</translation>
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
      <source>Decoder threads</source>
      <translation>Hilos del decodificador</translation>
    </message>
    <message>
      <source>Model folder</source>
      <translation>Carpeta del modelo</translation>
    </message>
    <message>
      <source>Cache</source>
      <translation>Caché</translation>
    </message>
    <message>
      <source>Rasters without a store</source>
      <translation>Rásteres sin almacén</translation>
    </message>
    <message>
      <source>Measuring and tuning decoders</source>
      <translation>Medir y ajustar decodificadores</translation>
    </message>
    <message>
      <source>Command line</source>
      <translation>Línea de órdenes</translation>
    </message>
    <message>
      <source>not found</source>
      <translation>no encontrada</translation>
    </message>
    <message>
      <source>The prompts kept with this polygon cannot be read</source>
      <translation>No se pueden leer las indicaciones guardadas con este polígono</translation>
    </message>
    <message>
      <source>start anew with a click</source>
      <translation>empezar de nuevo con un clic</translation>
    </message>
    <message>
      <source>The model sees no object here: add a point or draw a box</source>
      <translation>El modelo no ve ningún objeto aquí: añadir un punto o dibujar un recuadro</translation>
    </message>
    <message>
      <source>Score {score} · {rank} of {count} · {area} m² · {time:.0f} ms</source>
      <translation>Puntuación {score} · {rank} de {count} · {area} m² · {time:.0f} ms</translation>
    </message>
    <message>
      <source>no object</source>
      <translation>ningún objeto</translation>
    </message>
    <message>
      <source>Score {score} · {rank} of {count} · {area} m²</source>
      <translation>Puntuación {score} · {rank} de {count} · {area} m²</translation>
    </message>
    <message>
      <source>Agreement of the two (IoU): {percent} %</source>
      <translation>Coincidencia de los dos (IoU): {percent} %</translation>
    </message>
    <message>
      <source>The prompts could not be kept in {path}</source>
      <translation>No se pudieron guardar las indicaciones en {path}</translation>
    </message>
    <message>
      <source>check that the file can be written and that nobody else holds it</source>
      <translation>comprobar que se puede escribir en el archivo y que nadie más lo tiene abierto</translation>
    </message>
    <message>
      <source>open the store of {name}, or encode it again</source>
      <translation>abrir el almacén de {name}, o codificarlo de nuevo</translation>
    </message>
    <message>
      <source>Opening {name}</source>
      <translation>Abriendo {name}</translation>
    </message>
    <message>
      <source>copy it again, or encode again</source>
      <translation>copiarlo de nuevo, o volver a codificar</translation>
    </message>
    <message>
      <source>{path} is neither a GeoPackage nor a Shapefile</source>
      <translation>{path} no es un GeoPackage ni un Shapefile</translation>
    </message>
    <message>
      <source>let its name end with .gpkg or .shp</source>
      <translation>hacer que su nombre termine en .gpkg o .shp</translation>
    </message>
    <message>
      <source>A new layer needs a CRS</source>
      <translation>Una capa nueva necesita un SRC</translation>
    </message>
    <message>
      <source>set that of the raster in the properties of its layer</source>
      <translation>asignar el del ráster en las propiedades de su capa</translation>
    </message>
    <message>
      <source>{path} already has a layer {name}</source>
      <translation>{path} ya tiene una capa {name}</translation>
    </message>
    <message>
      <source>choose another name for the new one</source>
      <translation>elegir otro nombre para la nueva</translation>
    </message>
    <message>
      <source>{path} cannot be written</source>
      <translation>No se puede escribir {path}</translation>
    </message>
    <message>
      <source>check the folder, its permissions and the space on the disk</source>
      <translation>comprobar la carpeta, sus permisos y el espacio en disco</translation>
    </message>
    <message>
      <source>The prompt could not be answered ({reason})</source>
      <translation>No se pudo responder a la indicación ({reason})</translation>
    </message>
    <message>
      <source>try another one</source>
      <translation>probar con otra</translation>
    </message>
    <message>
      <source>{source} has label {label}</source>
      <translation>{source} tiene la etiqueta {label}</translation>
    </message>
    <message>
      <source>use 1 for positive and 0 for negative points</source>
      <translation>usar 1 para los puntos positivos y 0 para los negativos</translation>
    </message>
    <message>
      <source>{source} has two boxes for object {object}</source>
      <translation>{source} tiene dos recuadros para el objeto {object}</translation>
    </message>
    <message>
      <source>keep one of them</source>
      <translation>conservar uno de ellos</translation>
    </message>
    <message>
      <source>{source} has a polygon with label 0</source>
      <translation>{source} tiene un polígono con etiqueta 0</translation>
    </message>
    <message>
      <source>use points to say what is outside an object</source>
      <translation>usar puntos para decir qué queda fuera de un objeto</translation>
    </message>
    <message>
      <source>{source} has a {kind}, which is no prompt</source>
      <translation>{source} tiene una geometría {kind}, que no sirve de indicación</translation>
    </message>
    <message>
      <source>use points and polygons only</source>
      <translation>usar solo puntos y polígonos</translation>
    </message>
    <message>
      <source>Its coordinates have no place in the raster's CRS</source>
      <translation>Sus coordenadas no tienen lugar en el SRC del ráster</translation>
    </message>
    <message>
      <source>check the CRS of the prompts</source>
      <translation>comprobar el SRC de las indicaciones</translation>
    </message>
    <message>
      <source>{path} does not fit {name} beside it</source>
      <translation>{path} no encaja con {name}, que está a su lado</translation>
    </message>
    <message>
      <source>copy or export both again</source>
      <translation>copiar o exportar de nuevo los dos</translation>
    </message>
    <message>
      <source>{path} is not a whole SAM decoder, and has no prepare.onnx beside it</source>
      <translation>{path} no es un decodificador SAM completo, y no tiene prepare.onnx a su lado</translation>
    </message>
    <message>
      <source>{path} is not an encoder: it needs the input images and the outputs {outputs}</source>
      <translation>{path} no es un codificador: necesita la entrada images y las salidas {outputs}</translation>
    </message>
    <message>
      <source>export the model again with: geosam-es export MODEL -o DIR --encoder</source>
      <translation>exportar de nuevo el modelo con: geosam-es export MODELO -o CARPETA --encoder</translation>
    </message>
    <message>
      <source>{folder} is not a model folder: its {name} is missing or damaged</source>
      <translation>{folder} no es una carpeta de modelo: su {name} falta o está dañado</translation>
    </message>
    <message>
      <source>--overlap {overlap} cannot be ({reason})</source>
      <translation>--overlap {overlap} no es posible ({reason})</translation>
    </message>
    <message>
      <source>use 256</source>
      <translation>usar 256</translation>
    </message>
    <message>
      <source>{path} is not there</source>
      <translation>{path} no existe</translation>
    </message>
    <message>
      <source>check the path</source>
      <translation>comprobar la ruta</translation>
    </message>
    <message>
      <source>{path} is not a raster that GDAL can read</source>
      <translation>{path} no es un ráster que GDAL pueda leer</translation>
    </message>
    <message>
      <source>check the file, or copy it again</source>
      <translation>comprobar el archivo, o copiarlo de nuevo</translation>
    </message>
    <message>
      <source>{path} has no bands of its own</source>
      <translation>{path} no tiene bandas propias</translation>
    </message>
    <message>
      <source>choose one of its subdatasets</source>
      <translation>elegir uno de sus subconjuntos de datos</translation>
    </message>
    <message>
      <source>{path} has no coordinate reference system</source>
      <translation>{path} no tiene sistema de referencia de coordenadas</translation>
    </message>
    <message>
      <source>name it with --crs EPSG:25830 or the like</source>
      <translation>indicarlo con --crs EPSG:25830 o similar</translation>
    </message>
    <message>
      <source>--crs {crs} is not a coordinate reference system</source>
      <translation>--crs {crs} no es un sistema de referencia de coordenadas</translation>
    </message>
    <message>
      <source>use a code as EPSG:25830</source>
      <translation>usar un código como EPSG:25830</translation>
    </message>
    <message>
      <source>--nodata {nodata:g} cannot be in {path}, which is {dtype}</source>
      <translation>--nodata {nodata:g} no puede aparecer en {path}, que es {dtype}</translation>
    </message>
    <message>
      <source>correct it</source>
      <translation>corregirlo</translation>
    </message>
    <message>
      <source>{path} is truncated or damaged: its pixels at {col},{row} cannot be read</source>
      <translation>{path} está truncado o dañado: no se pueden leer sus píxeles en {col},{row}</translation>
    </message>
    <message>
      <source>copy or download it again</source>
      <translation>copiarlo o descargarlo de nuevo</translation>
    </message>
    <message>
      <source>{path} has no geotransform, so its pixels have no place on the map</source>
      <translation>{path} no tiene georreferencia, de modo que sus píxeles no tienen lugar en el mapa</translation>
    </message>
    <message>
      <source>warp it by its control points with gdalwarp</source>
      <translation>rectificarlo por sus puntos de control con gdalwarp</translation>
    </message>
    <message>
      <source>georeference it in QGIS</source>
      <translation>georreferenciarlo en QGIS</translation>
    </message>
    <message>
      <source>--bands needs one band or three, not {count}</source>
      <translation>--bands necesita una banda o tres, no {count}</translation>
    </message>
    <message>
      <source>write it as 4,1,2</source>
      <translation>escribirlo como 4,1,2</translation>
    </message>
    <message>
      <source>{path} has {count} band(s), and no band {band}</source>
      <translation>{path} tiene {count} banda(s), y no la banda {band}</translation>
    </message>
    <message>
      <source>correct --bands</source>
      <translation>corregir --bands</translation>
    </message>
    <message>
      <source>{path} has complex values, which are no image</source>
      <translation>{path} tiene valores complejos, que no forman una imagen</translation>
    </message>
    <message>
      <source>compute an amplitude image first</source>
      <translation>calcular antes una imagen de amplitud</translation>
    </message>
    <message>
      <source>copy the store or the model again</source>
      <translation>copiar de nuevo el almacén o el modelo</translation>
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
      <translation>{name} falló ({reason})</translation>
    </message>
    <message>
      <source>use a store and a decoder of one model</source>
      <translation>usar un almacén y un decodificador del mismo modelo</translation>
    </message>
    <message>
      <source>onnxruntime is not installed</source>
      <translation>onnxruntime no está instalado</translation>
    </message>
    <message>
      <source>install it with: pip install onnxruntime</source>
      <translation>instalarlo con: pip install onnxruntime</translation>
    </message>
    <message>
      <source>The point ({x:.8g}, {y:.8g}) lies outside the raster</source>
      <translation>El punto ({x:.8g}, {y:.8g}) está fuera del ráster</translation>
    </message>
    <message>
      <source>move it inside</source>
      <translation>colocarlo dentro</translation>
    </message>
    <message>
      <source>The box lies outside the raster or has no area</source>
      <translation>El recuadro está fuera del ráster o no tiene superficie</translation>
    </message>
    <message>
      <source>draw it on the raster</source>
      <translation>dibujarlo sobre el ráster</translation>
    </message>
    <message>
      <source>There is no data at ({x:.8g}, {y:.8g}), or it lies outside the area of interest</source>
      <translation>No hay datos en ({x:.8g}, {y:.8g}), o queda fuera del área de interés</translation>
    </message>
    <message>
      <source>choose another place, or encode it</source>
      <translation>elegir otro lugar, o codificarlo</translation>
    </message>
    <message>
      <source>No tile here has been encoded yet</source>
      <translation>Aún no se ha codificado ninguna tesela aquí</translation>
    </message>
    <message>
      <source>There is no candidate {number}</source>
      <translation>No hay ningún candidato {number}</translation>
    </message>
    <message>
      <source>choose one from 1 to {count}</source>
      <translation>elegir uno del 1 al {count}</translation>
    </message>
    <message>
      <source>give a prompt first</source>
      <translation>dar antes una indicación</translation>
    </message>
    <message>
      <source>{path} is {dtype}, which needs a stretch</source>
      <translation>{path} es {dtype}, que necesita un realce de contraste</translation>
    </message>
    <message>
      <source>leave out --stretch none</source>
      <translation>quitar --stretch none</translation>
    </message>
    <message>
      <source>--stretch {option} cannot be read</source>
      <translation>No se entiende --stretch {option}</translation>
    </message>
    <message>
      <source>use auto, none, two percentiles as 2,98 or two values as 0:4000</source>
      <translation>usar auto, none, dos percentiles como 2,98 o dos valores como 0:4000</translation>
    </message>
    <message>
      <source>{path} has no data at all</source>
      <translation>{path} no tiene ningún dato</translation>
    </message>
    <message>
      <source>check its nodata value, or set --nodata</source>
      <translation>comprobar su valor sin datos, o indicarlo con --nodata</translation>
    </message>
    <message>
      <source>Embedding store (the folder NAME.embeddings.zarr)</source>
      <translation>Almacén de embeddings (la carpeta NOMBRE.embeddings.zarr)</translation>
    </message>
    <message>
      <source>Evaluate decoders against polygons</source>
      <translation>Evaluar decodificadores con polígonos</translation>
    </message>
    <message>
      <source>Measures how well the decoders of a store draw polygons that are known to be right. A simulated user prompts each polygon, always in the same way; the report has IoU, Dice, precision, recall and boundary F-score with their intervals, by class and by size, the clicks needed, and the worst cases.

Polygons that a decoder was tuned on say nothing about others: measure on polygons it has not seen.

It runs geosam-es, the command line, in an environment of its own, chosen in the options of GeoSAM-ES. Where it is not installed, the log says how to install it.</source>
      <translation>Mide lo bien que los decodificadores de un almacén dibujan polígonos que se saben correctos. Un usuario simulado da indicaciones para cada polígono, siempre de la misma manera; el informe trae IoU, Dice, precisión, exhaustividad y F de contorno con sus intervalos, por clase y por tamaño, los clics necesarios y los peores casos.

Los polígonos con los que se ajustó un decodificador no dicen nada de los demás: medir con polígonos que no haya visto.

Ejecuta geosam-es, la línea de órdenes, en un entorno propio, que se elige en las opciones de GeoSAM-ES. Si no está instalada, el registro dice cómo instalarla.</translation>
    </message>
    <message>
      <source>Polygons known to be right</source>
      <translation>Polígonos que se saben correctos</translation>
    </message>
    <message>
      <source>Field with the class</source>
      <translation>Campo con la clase</translation>
    </message>
    <message>
      <source>Compare all decoders of the store</source>
      <translation>Comparar todos los decodificadores del almacén</translation>
    </message>
    <message>
      <source>Another decoder to compare (a folder)</source>
      <translation>Otro decodificador para comparar (una carpeta)</translation>
    </message>
    <message>
      <source>Kinds of prompts</source>
      <translation>Tipos de indicaciones</translation>
    </message>
    <message>
      <source>Report</source>
      <translation>Informe</translation>
    </message>
    <message>
      <source>Fine-tune the decoder on polygons</source>
      <translation>Ajustar el decodificador con polígonos</translation>
    </message>
    <message>
      <source>Teaches a store's decoder from polygons that are known to be right, such as those accepted with GeoSAM-ES and saved. The image is not encoded again. A part of the polygons, in places of its own, is kept apart, and the report says how the decoder did on them before and after.

The result is a folder that any store of the same model takes: here at once, or later with the menu beside the decoder in the panel. The decoders that the store has stay.

It runs geosam-es, the command line, in an environment of its own, chosen in the options of GeoSAM-ES. Where it is not installed, the log says how to install it.</source>
      <translation>Enseña al decodificador de un almacén con polígonos que se saben correctos, como los aceptados con GeoSAM-ES y guardados. La imagen no se codifica de nuevo. Una parte de los polígonos, en lugares aparte, se reserva, y el informe dice cómo respondió a ellos el decodificador antes y después.

El resultado es una carpeta que admite cualquier almacén del mismo modelo: aquí de inmediato, o después con el menú que hay junto al decodificador en el panel. Los decodificadores que tiene el almacén se quedan.

Ejecuta geosam-es, la línea de órdenes, en un entorno propio, que se elige en las opciones de GeoSAM-ES. Si no está instalada, el registro dice cómo instalarla.</translation>
    </message>
    <message>
      <source>Polygons to learn from</source>
      <translation>Polígonos de los que aprender</translation>
    </message>
    <message>
      <source>Only those whose field …</source>
      <translation>Solo aquellos cuyo campo …</translation>
    </message>
    <message>
      <source>… has the value</source>
      <translation>… tiene el valor</translation>
    </message>
    <message>
      <source>Use this decoder in the store</source>
      <translation>Usar este decodificador en el almacén</translation>
    </message>
    <message>
      <source>Its name there (if not set, that of the folder)</source>
      <translation>Su nombre allí (si no se indica, el de la carpeta)</translation>
    </message>
    <message>
      <source>Part of the polygons kept apart for measuring</source>
      <translation>Parte de los polígonos que se reserva para medir</translation>
    </message>
    <message>
      <source>Or a layer of others for measuring</source>
      <translation>O una capa con otros para medir</translation>
    </message>
    <message>
      <source>Epochs at most</source>
      <translation>Máximo de épocas</translation>
    </message>
    <message>
      <source>Minutes at most</source>
      <translation>Máximo de minutos</translation>
    </message>
    <message>
      <source>Tuned decoder</source>
      <translation>Decodificador ajustado</translation>
    </message>
    <message>
      <source>Name of the decoder in the store</source>
      <translation>Nombre del decodificador en el almacén</translation>
    </message>
    <message>
      <source>The store answers with the decoder {name} now</source>
      <translation>El almacén responde ahora con el decodificador {name}</translation>
    </message>
    <message>
      <source>A class needs both, the field and its value</source>
      <translation>Una clase necesita ambos, el campo y su valor</translation>
    </message>
    <message>
      <source>Store footprint and tiles</source>
      <translation>Extensión y teselas del almacén</translation>
    </message>
    <message>
      <source>Embedding stores</source>
      <translation>Almacenes de embeddings</translation>
    </message>
    <message>
      <source>Makes a polygon of the raster that a store of embeddings covers, with what the store says of itself, and one polygon for each tile of each level with its state: encoded, skipped (no data, or outside the area of interest) or missing.</source>
      <translation>Hace un polígono del ráster que cubre un almacén de embeddings, con lo que el almacén dice de sí mismo, y un polígono por cada tesela de cada nivel con su estado: codificada (encoded), omitida (skipped: sin datos, o fuera del área de interés) o pendiente (missing).</translation>
    </message>
    <message>
      <source>Encoded tiles</source>
      <translation>Teselas codificadas</translation>
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
      <source>Writing the polygons to {path}</source>
      <translation>Escribiendo los polígonos en {path}</translation>
    </message>
    <message>
      <source>{path} cannot be written: {reason}</source>
      <translation>No se puede escribir {path}: {reason}</translation>
    </message>
    <message>
      <source>check the space left and the permissions</source>
      <translation>comprobar el espacio libre y los permisos</translation>
    </message>
    <message>
      <source>{path} cannot be started ({reason})</source>
      <translation>No se puede iniciar {path} ({reason})</translation>
    </message>
    <message>
      <source>{path} is a Python without GeoSAM-ES</source>
      <translation>{path} es un Python sin GeoSAM-ES</translation>
    </message>
    <message>
      <source>The command line of GeoSAM-ES ended without a result: see the log</source>
      <translation>La línea de órdenes de GeoSAM-ES terminó sin resultado: véase el registro</translation>
    </message>
    <message>
      <source>Segmentation</source>
      <translation>Segmentación</translation>
    </message>
    <message>
      <source>Which of the model's masks to keep</source>
      <translation>Cuál de las máscaras del modelo se conserva</translation>
    </message>
    <message>
      <source>Leave out parts smaller than (m²)</source>
      <translation>Dejar fuera las partes menores de (m²)</translation>
    </message>
    <message>
      <source>Fill holes smaller than (m²)</source>
      <translation>Rellenar los huecos menores de (m²)</translation>
    </message>
    <message>
      <source>Simplify outlines by at most (pixels)</source>
      <translation>Simplificar los contornos como máximo (píxeles)</translation>
    </message>
    <message>
      <source>Finest level to answer from (0: full resolution)</source>
      <translation>Nivel más detallado que responde (0: resolución completa)</translation>
    </message>
    <message>
      <source>CRS of the polygons (the raster's if not set)</source>
      <translation>SRC de los polígonos (el del ráster si no se indica)</translation>
    </message>
    <message>
      <source>Polygons</source>
      <translation>Polígonos</translation>
    </message>
    <message>
      <source>Left out object {object}: {reason}</source>
      <translation>Se deja fuera el objeto {object}: {reason}</translation>
    </message>
    <message>
      <source>{count} of {total} objects have no polygon.</source>
      <translation>{count} de {total} objetos no tienen polígono.</translation>
    </message>
    <message>
      <source>Segment from points</source>
      <translation>Segmentar a partir de puntos</translation>
    </message>
    <message>
      <source>Draws a polygon around what each point lies on, from a store of precomputed embeddings.

Points with the same value in the object field belong to one object; without that field every point is an object of its own. The label field tells positive points (1) from negative ones (0). Fields called object and label are found by themselves. The points may have any CRS.

Candidate: best keeps the mask that the model itself rates highest; 1, 2 and 3 are its masks by rank, and all keeps every one, told apart by the field candidate.

Points that cannot be answered (outside the raster, no data, not encoded) are named in the log. Areas are measured on the ellipsoid.</source>
      <translation>Dibuja un polígono alrededor de aquello sobre lo que está cada punto, a partir de un almacén de embeddings ya calculados.

Los puntos con el mismo valor en el campo de objeto pertenecen a un solo objeto; sin ese campo, cada punto es un objeto. El campo de etiqueta distingue los puntos positivos (1) de los negativos (0). Los campos llamados object y label se encuentran solos. Los puntos pueden estar en cualquier SRC.

Candidato: best conserva la máscara que el propio modelo puntúa mejor; 1, 2 y 3 son sus máscaras por orden, y all las conserva todas, distinguidas por el campo candidate.

Los puntos a los que no se puede responder (fuera del ráster, sin datos, sin codificar) se nombran en el registro. Las superficies se miden sobre el elipsoide.</translation>
    </message>
    <message>
      <source>Points</source>
      <translation>Puntos</translation>
    </message>
    <message>
      <source>Field of the object that a point belongs to</source>
      <translation>Campo del objeto al que pertenece un punto</translation>
    </message>
    <message>
      <source>Field with 1 for positive and 0 for negative points</source>
      <translation>Campo con 1 para los puntos positivos y 0 para los negativos</translation>
    </message>
    <message>
      <source>Segment from boxes</source>
      <translation>Segmentar a partir de recuadros</translation>
    </message>
    <message>
      <source>Draws a polygon around the object in the bounding box of each feature, from a store of precomputed embeddings. The polygons may be rough outlines, and have any CRS.

The object field names the objects in the output; a field called object is found by itself, and without one the feature's id is used.

Boxes that cannot be answered (outside the raster, no data, not encoded) are named in the log. Areas are measured on the ellipsoid.</source>
      <translation>Dibuja un polígono alrededor del objeto que hay en el rectángulo envolvente de cada entidad, a partir de un almacén de embeddings ya calculados. Los polígonos pueden ser contornos aproximados, y estar en cualquier SRC.

El campo de objeto da nombre a los objetos en la salida; un campo llamado object se encuentra solo, y sin campo se usa el id de la entidad.

Los recuadros a los que no se puede responder (fuera del ráster, sin datos, sin codificar) se nombran en el registro. Las superficies se miden sobre el elipsoide.</translation>
    </message>
    <message>
      <source>Boxes or polygons</source>
      <translation>Recuadros o polígonos</translation>
    </message>
    <message>
      <source>Field with the name of the object</source>
      <translation>Campo con el nombre del objeto</translation>
    </message>
    <message>
      <source>Left out feature {id}: it has no geometry, or no place in the raster's CRS</source>
      <translation>Se deja fuera la entidad {id}: no tiene geometría, o no tiene lugar en el SRC del ráster</translation>
    </message>
    <message>
      <source>The mask is empty or smaller than the minimum area</source>
      <translation>La máscara está vacía o es menor que la superficie mínima</translation>
    </message>
    <message>
      <source>Decoders</source>
      <translation>Decodificadores</translation>
    </message>
    <message>
      <source>To install the command line of GeoSAM-ES, type in a terminal:</source>
      <translation>Para instalar la línea de órdenes de GeoSAM-ES, escribir en un terminal:</translation>
    </message>
    <message>
      <source>The same by hand:</source>
      <translation>Lo mismo a mano:</translation>
    </message>
    <message>
      <source>The cache {folder} is full ({size:.3g} GiB)</source>
      <translation>La caché {folder} está llena ({size:.3g} GiB)</translation>
    </message>
    <message>
      <source>allow it more in the options, or copy the raster to a folder that can be written</source>
      <translation>ampliarla en las opciones, o copiar el ráster a una carpeta en la que se pueda escribir</translation>
    </message>
    <message>
      <source>{folder} is not a decoder: it has no {name}</source>
      <translation>{folder} no es un decodificador: no tiene {name}</translation>
    </message>
    <message>
      <source>choose a folder that geosam-es finetune wrote</source>
      <translation>elegir una carpeta escrita por geosam-es finetune</translation>
    </message>
    <message>
      <source>{path} cannot be read ({reason})</source>
      <translation>No se puede leer {path} ({reason})</translation>
    </message>
    <message>
      <source>check its permissions</source>
      <translation>comprobar sus permisos</translation>
    </message>
    <message>
      <source>{path} is damaged</source>
      <translation>{path} está dañado</translation>
    </message>
    <message>
      <source>copy the decoder again</source>
      <translation>copiar de nuevo el decodificador</translation>
    </message>
    <message>
      <source>{path} is damaged ({reason})</source>
      <translation>{path} está dañado ({reason})</translation>
    </message>
    <message>
      <source>{path} is not the file that decoder.json tells of: it was changed or copied in part</source>
      <translation>{path} no es el archivo que describe decoder.json: se modificó o se copió a medias</translation>
    </message>
    <message>
      <source>{root} has no decoder {name}</source>
      <translation>{root} no tiene el decodificador {name}</translation>
    </message>
    <message>
      <source>choose one of: {names}</source>
      <translation>elegir uno de estos: {names}</translation>
    </message>
    <message>
      <source>choose a decoder with: geosam-es decoder use</source>
      <translation>elegir un decodificador con: geosam-es decoder use</translation>
    </message>
    <message>
      <source>{root} has no {name}</source>
      <translation>{root} no contiene {name}</translation>
    </message>
    <message>
      <source>copy the store again, or encode again</source>
      <translation>copiar de nuevo el almacén, o volver a codificar</translation>
    </message>
    <message>
      <source>The decoder {name} of {root} is not whole</source>
      <translation>El decodificador {name} de {root} no está completo</translation>
    </message>
    <message>
      <source>copy the store again, or go back with: geosam-es decoder use STORE original</source>
      <translation>copiar de nuevo el almacén, o volver al inicial con: geosam-es decoder use STORE original</translation>
    </message>
    <message>
      <source>{name!r} cannot be the name of a decoder in a store</source>
      <translation>{name!r} no puede ser el nombre de un decodificador en un almacén</translation>
    </message>
    <message>
      <source>give another one of letters, digits, spaces and - . _ with --name</source>
      <translation>dar otro de letras, cifras, espacios y - . _ con --name</translation>
    </message>
    <message>
      <source>{folder} is a decoder of the encoder {other}, and {root} was made with the encoder {own}</source>
      <translation>{folder} es un decodificador del codificador {other}, y {root} se hizo con el codificador {own}</translation>
    </message>
    <message>
      <source>use a store of its own encoder, or tune a decoder on this one</source>
      <translation>usar un almacén de su mismo codificador, o ajustar un decodificador sobre este</translation>
    </message>
    <message>
      <source>{root} cannot be without the decoder it was made with</source>
      <translation>{root} no puede quedarse sin el decodificador con el que se hizo</translation>
    </message>
    <message>
      <source>remove only decoders that were added</source>
      <translation>quitar solo los decodificadores añadidos</translation>
    </message>
    <message>
      <source>copy it to a folder that can be written, or ask for the permission</source>
      <translation>copiarlo a una carpeta en la que se pueda escribir, o pedir el permiso</translation>
    </message>
    <message>
      <source>{root} is not an embedding store</source>
      <translation>{root} no es un almacén de embeddings</translation>
    </message>
    <message>
      <source>make one with: geosam-es encode IMAGE</source>
      <translation>hacer uno con: geosam-es encode IMAGEN</translation>
    </message>
    <message>
      <source>{root} is not an embedding store: it has no {name}</source>
      <translation>{root} no es un almacén de embeddings: no contiene {name}</translation>
    </message>
    <message>
      <source>choose a folder that geosam-es encode wrote, or encode again with --overwrite</source>
      <translation>elegir una carpeta escrita por geosam-es encode, o codificar de nuevo con --overwrite</translation>
    </message>
    <message>
      <source>{path} is damaged or not a GeoSAM-ES store's</source>
      <translation>{path} está dañado o no es de un almacén de GeoSAM-ES</translation>
    </message>
    <message>
      <source>encode again with --overwrite</source>
      <translation>codificar de nuevo con --overwrite</translation>
    </message>
    <message>
      <source>{root} has format version {version}, and this GeoSAM-ES reads version {known}</source>
      <translation>{root} tiene la versión de formato {version}, y este GeoSAM-ES lee la versión {known}</translation>
    </message>
    <message>
      <source>update GeoSAM-ES, or encode again with --overwrite</source>
      <translation>actualizar GeoSAM-ES, o codificar de nuevo con --overwrite</translation>
    </message>
    <message>
      <source>{root} holds features of type {dtype}, which is not known here</source>
      <translation>{root} contiene datos de tipo {dtype}, que aquí no se conoce</translation>
    </message>
    <message>
      <source>update GeoSAM-ES</source>
      <translation>actualizar GeoSAM-ES</translation>
    </message>
    <message>
      <source>{path} is missing or damaged</source>
      <translation>{path} falta o está dañado</translation>
    </message>
    <message>
      <source>{path} does not fit the store's metadata</source>
      <translation>{path} no encaja con los metadatos del almacén</translation>
    </message>
    <message>
      <source>encode again</source>
      <translation>codificar de nuevo</translation>
    </message>
    <message>
      <source>Tile {tile} of {root} cannot be read ({reason})</source>
      <translation>No se puede leer la tesela {tile} de {root} ({reason})</translation>
    </message>
    <message>
      <source>see what is missing with: geosam-es verify STORE</source>
      <translation>ver qué falta con: geosam-es verify ALMACÉN</translation>
    </message>
    <message>
      <source>{path} has {count} values in place of {wanted}</source>
      <translation>{path} tiene {count} valores en lugar de {wanted}</translation>
    </message>
    <message>
      <source>delete it and encode with --resume</source>
      <translation>borrarlo y codificar con --resume</translation>
    </message>
    <message>
      <source>use the same options, another output, or start again with --overwrite</source>
      <translation>usar las mismas opciones u otra salida, o empezar de nuevo con --overwrite</translation>
    </message>
    <message>
      <source>{name} has shape {shape} in place of {wanted}</source>
      <translation>{name} tiene la forma {shape} en lugar de {wanted}</translation>
    </message>
    <message>
      <source>{name} of tile {tile} has values that are not finite</source>
      <translation>{name} de la tesela {tile} tiene valores que no son finitos</translation>
    </message>
    <message>
      <source>{root} is there already</source>
      <translation>{root} ya existe</translation>
    </message>
    <message>
      <source>go on with --resume or start again with --overwrite</source>
      <translation>continuar con --resume o empezar de nuevo con --overwrite</translation>
    </message>
    <message>
      <source>check the space left and the permissions, or choose another folder with -o</source>
      <translation>comprobar el espacio libre y los permisos, o elegir otra carpeta con -o</translation>
    </message>
    <message>
      <source>{root} is there and is not an embedding store</source>
      <translation>{root} existe y no es un almacén de embeddings</translation>
    </message>
    <message>
      <source>choose another name with -o</source>
      <translation>elegir otro nombre con -o</translation>
    </message>
  </context>
</TS>
