"use strict";
// Draws the map that `data` describes. Pictures are decoded as they are looked at; nothing is asked of any network.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const plot = $("plot"), card = $("card");
const FEW = 3000; // so many points are drawn as shapes, which need no WebGL
const PALETTE = ["#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f", "#edc948", "#b07aa1", "#ff9da7", "#9c755f",
  "#1b9e77", "#d95f02", "#7570b3", "#e7298a", "#66a61e", "#a6761d", "#17becf"];
const NONE = "#9aa0a6";
const hasWebGL = !!document.createElement("canvas").getContext("webgl2");
let highlighted = null;

const picture = (row) => data.thumbnails[row] ? `data:image/webp;base64,${data.thumbnails[row]}` : "";
const name = (row) => data.paths ? data.paths[row] : `photo ${data.ids[row]}`;
const colourOf = (number) => number < 0 ? NONE : PALETTE[number % PALETTE.length];

function element(tag, text, properties = {}) {
  const made = Object.assign(document.createElement(tag), properties);
  if (text !== null) made.textContent = text;
  return made;
}

function image(row) {
  const made = element("img", null, { alt: "" });
  if (picture(row)) made.src = picture(row);
  return made;
}

function colours() {
  const by = $("colour").value;
  if (by === "isolation") return { color: data.isolation, colorscale: "Viridis", showscale: true,
    colorbar: { title: { text: "distance" }, thickness: 12 } };
  return { color: data[by].map(colourOf) };
}

function trace(deep) {
  const gl = data.ids.length > FEW && hasWebGL;
  const size = Math.max(3, Math.min(9, 300 / Math.sqrt(data.ids.length)));
  const shown = data.cluster.map((number) => highlighted === null || number === highlighted ? 0.9 : 0.12);
  const places = deep ? { x: data.x3, y: data.y3, z: data.z3 } : { x: data.x, y: data.y };
  // A 3-d trace has one opacity; what is not highlighted is left out.
  const keep = (values) => deep && highlighted !== null && Array.isArray(values)
    ? values.filter((_, row) => data.cluster[row] === highlighted) : values;
  const marker = { size: deep ? Math.max(2, size - 3) : size, opacity: deep ? 0.9 : shown, ...colours() };
  marker.color = keep(marker.color);
  for (const axis of Object.keys(places)) places[axis] = keep(places[axis]);
  return { type: deep ? "scatter3d" : gl ? "scattergl" : "scatter", mode: "markers", hoverinfo: "none", marker,
    customdata: keep(data.ids.map((_, row) => row)), ...places };
}

function links() {
  const x = [], y = [];
  for (const [from, to] of data.links) {
    x.push(data.x[from], data.x[to], null);
    y.push(data.y[from], data.y[to], null);
  }
  return { type: data.links.length > FEW && hasWebGL ? "scattergl" : "scatter", mode: "lines", x, y, hoverinfo: "skip",
    line: { width: 0.5, color: "rgba(128,128,128,.45)" } };
}

function labels() {
  if (highlighted !== null || !$("words").checked) return [];
  return data.clusters.slice(0, 40).filter((cluster) => cluster.words.length).map((cluster) => ({
    x: cluster.x, y: cluster.y, text: cluster.words[0], showarrow: false, bgcolor: "rgba(127,127,127,.25)" }));
}

// Pictures of the largest clusters, as large as a part of the map, so that they grow with it.
function pictures() {
  if (!$("pictures").checked) return [];
  const side = Math.max(extent(data.x), extent(data.y)) / 22;
  return data.clusters.slice(0, 60).filter((cluster) => cluster.row !== null && picture(cluster.row)
    && (highlighted === null || highlighted === cluster.number)).map((cluster) => ({ source: picture(cluster.row),
    xref: "x", yref: "y", x: cluster.x, y: cluster.y, sizex: side, sizey: side, xanchor: "center", yanchor: "bottom" }));
}

const extent = (values) => values.reduce((a, b) => Math.max(a, b)) - values.reduce((a, b) => Math.min(a, b)) || 1;

function draw() {
  const ink = getComputedStyle(document.body).color, deep = $("deep").checked;
  const bare = { visible: false, showgrid: false, zeroline: false };
  const layout = { margin: { l: 0, r: 0, t: 0, b: 0 }, showlegend: false, hovermode: "closest", dragmode: deep ? "orbit" : "pan",
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink }, uirevision: deep ? 3 : 2,
    xaxis: bare, yaxis: { ...bare, scaleanchor: "x" }, annotations: deep ? [] : labels(),
    images: deep ? [] : pictures(), modebar: { bgcolor: "rgba(0,0,0,0)" },
    scene: { xaxis: bare, yaxis: bare, zaxis: bare } };
  const traces = deep ? [trace(true)] : $("linked").checked ? [links(), trace(false)] : [trace(false)];
  Plotly.react(plot, traces, layout, { scrollZoom: true, responsive: true, displaylogo: false,
    modeBarButtons: deep ? [["resetCameraDefault3d"]] : [["zoomIn2d", "zoomOut2d", "resetScale2d"]] });
}

function describe(row) {
  const facts = [`id:${data.ids[row]}`];
  if (data.cluster[row] >= 0) facts.push(`cluster ${data.cluster[row]}`);
  facts.push(`${data.isolation[row].toFixed(3)} from its neighbours`);
  return facts.join(" · ");
}

function showCard(row, event) {
  card.replaceChildren(image(row), element("div", name(row)), element("small", describe(row)));
  card.hidden = false;
  const box = card.getBoundingClientRect();
  const left = event.clientX + 16 + box.width > innerWidth ? event.clientX - 16 - box.width : event.clientX + 16;
  card.style.left = `${Math.max(4, left)}px`;
  card.style.top = `${Math.max(4, Math.min(event.clientY + 12, innerHeight - box.height - 4))}px`;
}

function showPhoto(row) {
  const near = data.links.filter(([from, to]) => from === row || to === row)
    .map(([from, to, similarity]) => [from === row ? to : from, similarity]).sort((a, b) => b[1] - a[1]);
  $("photo").replaceChildren(element("h2", "Photo"), image(row), element("div", name(row)), element("small", describe(row)));
  const list = element("ul", null);
  for (const [other, similarity] of near) {
    const item = element("li", null, { title: name(other) });
    item.append(image(other), element("small", similarity.toFixed(3)));
    list.append(item);
  }
  $("near").replaceChildren(element("h2", near.length ? "Linked to" : "Linked to no photo that is shown"), list);
}

function listClusters() {
  const list = $("clusters");
  for (const cluster of data.clusters) {
    const button = element("button", null, { type: "button", ariaPressed: "false" });
    button.style.setProperty("--of", colourOf(cluster.number));
    const told = element("span", null);
    told.append(element("b", cluster.words.join(", ") || `cluster ${cluster.number}`),
      element("small", `${cluster.size.toLocaleString("en")} photos`));
    button.append(cluster.row === null ? element("span", null) : image(cluster.row), told);
    button.addEventListener("click", () => {
      highlighted = highlighted === cluster.number ? null : cluster.number;
      for (const other of list.querySelectorAll("button")) other.ariaPressed = String(other === button && highlighted !== null);
      draw();
    });
    const item = element("li", null);
    item.append(button);
    list.append(item);
  }
}

for (const id of ["colour", "deep", "linked", "words", "pictures"]) $(id).addEventListener("change", draw);
if (!hasWebGL) $("deep").disabled = true;
if (!data.clusters.some((cluster) => cluster.words.length)) $("words").closest("label").hidden = true;
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
listClusters();
draw();
plot.on("plotly_hover", (hover) => {
  const point = hover.points.find((one) => one.customdata !== undefined);
  if (point) showCard(point.customdata, hover.event);
});
plot.on("plotly_unhover", () => { card.hidden = true; });
plot.on("plotly_click", (click) => {
  const point = click.points.find((one) => one.customdata !== undefined);
  if (point) showPhoto(point.customdata);
});
