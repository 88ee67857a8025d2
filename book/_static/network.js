// A reader draws a digit, a pruned network of the records classifies it: the page `network`.
// network_data.js, written when the book is built, defines window.prunedNetworks.
"use strict";

(() => {
  const SIDE = 28;
  const BOX = 20; // MNIST: the digit fills a box of 20 × 20 pixels, then its mass is centred
  const PEN = 1.0; // half the width of a stroke, in pixels
  const NS = "http://www.w3.org/2000/svg";

  // ---- the network ------------------------------------------------------------------------------

  const activations = {
    silu: (z) => z / (1 + Math.exp(-z)),
    relu: (z) => Math.max(z, 0),
    tanh: Math.tanh,
    sigmoid: (z) => 1 / (1 + Math.exp(-z)),
  };

  // pixels: 784 numbers in [0, 1] ↦ the values of each layer's neurons, and what flows over each edge
  function forward(network, pixels) {
    const flows = [];
    const values = [pixels];
    network.edges.forEach((edges, layer) => {
      const sums = { ...network.biases[layer] };
      const last = layer === network.edges.length - 1;
      flows.push(edges.map(([from, to, weight]) => weight * values[layer][from]));
      edges.forEach(([, to], k) => (sums[to] += flows[layer][k]));
      const activate = last ? (z) => z : activations[network.activation];
      values.push(Object.fromEntries(Object.entries(sums).map(([neuron, z]) => [neuron, activate(z)])));
    });
    return { values, flows, outputs: Object.values(values[values.length - 1]) };
  }

  function softmax(outputs) {
    const most = Math.max(...outputs);
    const powers = outputs.map((z) => Math.exp(z - most));
    const sum = powers.reduce((a, b) => a + b);
    return powers.map((p) => p / sum);
  }

  // ---- from strokes to MNIST's 28 × 28 pixels ---------------------------------------------------

  function distance([x, y], [ax, ay], [bx, by]) {
    const length = (bx - ax) ** 2 + (by - ay) ** 2;
    const t = length && Math.min(1, Math.max(0, ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length));
    return Math.hypot(x - ax - t * (bx - ax), y - ay - t * (by - ay));
  }

  // full inside the pen, fading over one pixel at its edge
  function rasterised(strokes) {
    const pixels = new Array(SIDE * SIDE).fill(0);
    for (const stroke of strokes) {
      for (let k = 0; k < stroke.length; k++) {
        const a = stroke[Math.max(0, k - 1)];
        const b = stroke[k];
        const reach = PEN + 1;
        const rows = [Math.min(a[1], b[1]) - reach, Math.max(a[1], b[1]) + reach];
        const columns = [Math.min(a[0], b[0]) - reach, Math.max(a[0], b[0]) + reach];
        for (let row = Math.max(0, Math.floor(rows[0])); row <= Math.min(SIDE - 1, rows[1]); row++) {
          for (let column = Math.max(0, Math.floor(columns[0])); column <= Math.min(SIDE - 1, columns[1]); column++) {
            const ink = PEN + 0.5 - distance([column + 0.5, row + 0.5], a, b);
            const at = row * SIDE + column;
            pixels[at] = Math.max(pixels[at], Math.min(1, Math.max(0, ink)));
          }
        }
      }
    }
    return pixels;
  }

  function moved(strokes, scale, dx, dy) {
    return strokes.map((stroke) => stroke.map(([x, y]) => [x * scale + dx, y * scale + dy]));
  }

  // scaled to MNIST's box, then shifted until the centre of mass lies in the middle
  function normalised(strokes) {
    const points = strokes.flat();
    if (!points.length) return rasterised([]);
    const [xs, ys] = [points.map((p) => p[0]), points.map((p) => p[1])];
    const size = Math.max(Math.max(...xs) - Math.min(...xs), Math.max(...ys) - Math.min(...ys));
    const scale = Math.min(3, (BOX - 2 * PEN) / Math.max(size, 1e-6));
    const middle = (v) => (Math.min(...v) + Math.max(...v)) / 2;
    let drawn = moved(strokes, scale, SIDE / 2 - scale * middle(xs), SIDE / 2 - scale * middle(ys));
    let pixels = rasterised(drawn);
    for (let again = 0; again < 2; again++) {
      const mass = pixels.reduce((a, b) => a + b);
      const x = pixels.reduce((sum, ink, k) => sum + ink * ((k % SIDE) + 0.5), 0) / mass;
      const y = pixels.reduce((sum, ink, k) => sum + ink * (Math.floor(k / SIDE) + 0.5), 0) / mass;
      drawn = moved(drawn, 1, SIDE / 2 - x, SIDE / 2 - y);
      pixels = rasterised(drawn);
    }
    return pixels;
  }

  // ---- the drawing of the network ---------------------------------------------------------------

  function element(name, attributes, parent) {
    const made = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    parent?.append(made);
    return made;
  }

  // neurons of each layer in the order of what they lead to: few crossings
  function ordered(network) {
    const order = network.biases.map((biases) => Object.keys(biases).map(Number));
    for (let layer = order.length - 2; layer >= 0; layer--) {
      const place = new Map(order[layer + 1].map((neuron, k) => [neuron, k / order[layer + 1].length]));
      const pull = new Map(order[layer].map((neuron) => [neuron, [0, 1e-9]]));
      for (const [from, to, weight] of network.edges[layer + 1]) {
        const sums = pull.get(from);
        sums[0] += Math.abs(weight) * place.get(to);
        sums[1] += Math.abs(weight);
      }
      const mean = (neuron) => pull.get(neuron)[0] / pull.get(neuron)[1];
      order[layer].sort((a, b) => mean(a) - mean(b));
    }
    return order;
  }

  // on a wide screen the signal runs to the right, on a phone downwards
  function layout(wide) {
    const along = wide ? [452, 610, 735] : [400, 515, 610];
    const [cell, across] = wide ? [11, 470] : [11, 400];
    const corner = wide ? [4, (across - SIDE * cell) / 2] : [(across - SIDE * cell) / 2, 4];
    return {
      wide,
      cell,
      box: wide ? [860, across] : [across, 720],
      pixel: (k) => [corner[0] + cell * ((k % SIDE) + 0.5), corner[1] + cell * (Math.floor(k / SIDE) + 0.5)],
      neuron: (layer, k, count) => {
        const place = 10 + ((across - 20) * (k + 0.5)) / count;
        return wide ? [along[layer], place] : [place, along[layer]];
      },
    };
  }

  class Drawing {
    constructor(svg, network, wide) {
      svg.replaceChildren();
      const plan = layout(wide);
      this.plan = plan;
      svg.setAttribute("viewBox", `0 0 ${plan.box.join(" ")}`);
      const read = new Set(network.edges[0].map(([from]) => from));
      const order = ordered(network);
      const place = order.map((neurons, layer) =>
        new Map(neurons.map((neuron, k) => [neuron, plan.neuron(layer, k, neurons.length)])));
      const group = (name) => element("g", { class: name }, svg);

      const grid = group("play-grid");
      this.pixels = Array.from({ length: SIDE * SIDE }, (_, k) => {
        const [x, y] = plan.pixel(k);
        const [size, half] = [plan.cell - 1, (plan.cell - 1) / 2];
        return element("rect", { x: x - half, y: y - half, width: size, height: size, class: read.has(k) ? "read" : "" }, grid);
      });
      const lines = group("play-edges");
      this.edges = network.edges.map((edges, layer) => edges.map(([from, to]) => {
        const [x1, y1] = layer ? place[layer - 1].get(from) : plan.pixel(from);
        const [x2, y2] = place[layer].get(to);
        const bend = plan.wide ? `${(x1 + x2) / 2} ${y1} ${(x1 + x2) / 2} ${y2}` : `${x1} ${(y1 + y2) / 2} ${x2} ${(y1 + y2) / 2}`;
        return element("path", { d: `M${x1} ${y1}C${bend} ${x2} ${y2}` }, lines);
      }));
      const circles = group("play-neurons");
      this.neurons = place.map((places) => new Map([...places].map(([neuron, [cx, cy]]) =>
        [neuron, element("circle", { cx, cy, r: 4 }, circles)])));
      const outputs = group("play-outputs");
      this.outputs = [...place[place.length - 1]].map(([digit, [x, y]]) => {
        const bar = element("rect", plan.wide ? { x: x + 32, y: y - 9, height: 18 } : { x: x - 12, y: y + 34, width: 24 }, outputs);
        const name = element("text", { x: plan.wide ? x + 19 : x, y: plan.wide ? y + 6 : y + 26 }, outputs);
        name.textContent = digit;
        return { bar, name };
      });
    }

    show(pixels, { values, flows, outputs }) {
      this.pixels.forEach((rect, k) => (rect.style.fillOpacity = pixels[k]));
      flows.forEach((layer, at) => {
        const most = Math.max(...layer.map(Math.abs), 1e-9);
        layer.forEach((flow, k) => {
          const share = Math.sqrt(Math.abs(flow) / most);
          const line = this.edges[at][k];
          line.setAttribute("class", flow > 0 ? "plus" : flow < 0 ? "minus" : "");
          line.style.strokeOpacity = 0.13 + 0.87 * share;
          line.style.strokeWidth = 0.5 + 2.2 * share;
        });
      });
      this.neurons.forEach((neurons, layer) => {
        const here = values[layer + 1];
        const most = Math.max(...Object.values(here).map(Math.abs), 1e-9);
        neurons.forEach((circle, neuron) => {
          circle.setAttribute("class", here[neuron] > 0 ? "plus" : here[neuron] < 0 ? "minus" : "");
          circle.style.fillOpacity = Math.abs(here[neuron]) / most;
        });
      });
      const shares = softmax(outputs);
      const winner = outputs.indexOf(Math.max(...outputs));
      this.outputs.forEach(({ bar, name }, digit) => {
        bar.setAttribute(this.plan.wide ? "width" : "height", 1 + 74 * shares[digit]);
        for (const part of [bar, name]) part.classList.toggle("winner", digit === winner);
      });
    }
  }

  // ---- the page ---------------------------------------------------------------------------------

  function start(root) {
    const { networks, samples } = window.prunedNetworks;
    const find = (name) => root.querySelector(`[data-play="${name}"]`);
    const [pad, ink, pen, slider, said] = ["pad", "ink", "pen", "weights", "said"].map(find);
    const narrow = window.matchMedia("(max-width: 700px)");
    let [network, strokes, pixels, drawing] = [networks[0], [], rasterised([]), null];

    function show() {
      const result = forward(network, pixels);
      drawing.show(pixels, result);
      const shares = softmax(result.outputs);
      const best = result.outputs.indexOf(Math.max(...result.outputs));
      const empty = pixels.every((v) => v === 0);
      said.textContent = empty ? "Nothing is drawn yet." : `The network says ${best} (${(100 * shares[best]).toFixed(0)} %).`;
      find("numbers").replaceChildren(...result.outputs.map((z, digit) => {
        const row = document.createElement("tr");
        row.innerHTML = `<th scope="row">${digit}</th><td>${z.toFixed(3)}</td><td>${(100 * shares[digit]).toFixed(1)} %</td>`;
        return row;
      }));
    }

    function choose() {
      network = networks[slider.value];
      drawing = new Drawing(find("network"), network, !narrow.matches);
      const read = new Set(network.edges[0].map(([from]) => from)).size;
      const text = `${network.weights} weights`;
      slider.setAttribute("aria-valuetext", text);
      find("size").textContent = text;
      find("facts").textContent = `It reads ${read} of the 784 pixels and classifies ${(100 * network.accuracy).toFixed(2)} % of the 10,000 test images correctly.`;
      show();
    }

    function drawn() {
      ink.replaceChildren();
      for (const stroke of strokes) {
        const points = stroke.length > 1 ? stroke : [stroke[0], [stroke[0][0] + 0.01, stroke[0][1]]];
        element("polyline", { points: points.map((p) => p.join(",")).join(" ") }, ink);
      }
      pixels = normalised(strokes);
      show();
    }

    function clear() {
      strokes = [];
      drawn();
    }

    function position(event) {
      const box = pad.getBoundingClientRect();
      return [((event.clientX - box.left) / box.width) * SIDE, ((event.clientY - box.top) / box.height) * SIDE];
    }

    pad.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      pad.focus({ preventScroll: true });
      pad.classList.remove("by-keyboard");
      pad.setPointerCapture(event.pointerId);
      strokes.push([position(event)]);
      drawn();
    });
    pad.addEventListener("pointermove", (event) => {
      if (!pad.hasPointerCapture(event.pointerId)) return;
      strokes[strokes.length - 1].push(position(event));
      drawn();
    });

    // the keyboard's pen: arrows move it, space puts it down and lifts it
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    let [at, down] = [[SIDE / 2, SIDE / 2], false];
    pad.addEventListener("keydown", (event) => {
      if (event.key === " ") {
        down = !down;
        if (down) strokes.push([[...at]]);
      } else if (event.key === "Delete" || event.key === "Backspace") {
        down = false;
        strokes = [];
      } else if (event.key in steps) {
        at = at.map((v, k) => Math.min(SIDE - 1, Math.max(1, v + steps[event.key][k])));
        if (down) strokes[strokes.length - 1].push([...at]);
      } else return;
      event.preventDefault();
      pad.classList.add("by-keyboard");
      pen.setAttribute("cx", at[0]);
      pen.setAttribute("cy", at[1]);
      pen.classList.toggle("down", down);
      drawn();
    });

    for (const { digit, pixels: packed } of samples) {
      const values = Array.from(atob(packed), (c) => c.charCodeAt(0) / 255);
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-label", `Test image of a ${digit}`);
      const picture = element("svg", { viewBox: "0 0 28 28", "aria-hidden": "true" }, button);
      values.forEach((v, k) => v && element("rect",
        { x: k % SIDE, y: Math.floor(k / SIDE), width: 1.02, height: 1.02, "fill-opacity": v.toFixed(2) }, picture));
      button.addEventListener("click", () => {
        strokes = [];
        ink.replaceChildren();
        pixels = values;
        show();
      });
      find("samples").append(button);
    }
    find("no-samples").hidden = samples.length > 0;

    slider.max = networks.length - 1;
    slider.addEventListener("input", choose);
    narrow.addEventListener("change", choose);
    find("clear").addEventListener("click", clear);
    choose();
    find("samples").children[2]?.click(); // something to look at before the reader draws
    window.playNetwork = { // for the tests: the same functions, by number
      outputs: (values, index) => forward(networks[index], values).outputs,
      pixels: () => pixels,
      normalised,
    };
  }

  const root = document.getElementById("play");
  if (root) start(root);
})();
