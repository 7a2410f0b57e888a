// The text: only the lines that are seen are drawn, with a canvas behind them.

import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../vendor/htm-preact.js";
import { Layout, measurer } from "../text/layout.js";
import { colours, paint, STRIP } from "../text/painting.js";
import { move, selection } from "../store.js";
import { look, scaleOf, valueAt } from "../actions/units.js";
import { onKey } from "./keys.js";
import { StatusLine } from "./status.js";

const COLUMN = 640; // pixels at most
const TEXT = 26; // pixels of a line's height
const GAP = 8;
const MARGIN = 20;

export function TextPane(props) {
  const { reading, cursor, anchor, writing, units, shade } = props;
  const pane = useRef();
  const canvas = useRef();
  const [size, setSize] = useState({ wide: 0, high: 0 });
  const [top, setTop] = useState(0);
  const [hasFocus, setFocus] = useState(false);
  const font = useMemo(() => getComputedStyle(document.body).getPropertyValue("--text-font"), []);
  const measure = useMemo(() => measurer(font), [font]);
  const column = Math.max(100, Math.min(COLUMN, size.wide - 2 * MARGIN));
  const layout = useMemo(() => new Layout(reading.symbols, measure, column), [reading, measure, column]);
  if (layout.read < reading.length) layout.grow();

  const strips = units.map(({ key }) => key);
  const lineHeight = TEXT + GAP + strips.length * STRIP;
  const first = Math.max(0, Math.min(Math.floor((top - MARGIN) / lineHeight), layout.count - 1));
  const last = Math.min(layout.count - 1, Math.floor((top - MARGIN + size.high) / lineHeight));
  const left = Math.max(MARGIN, (size.wide - column) / 2);

  useEffect(() => watchSize(pane.current, setSize), []);
  useLayoutEffect(() => {
    const element = pane.current;
    const y = MARGIN + layout.lineOf(cursor) * lineHeight;
    if (y < element.scrollTop) element.scrollTop = y - MARGIN;
    const below = y + lineHeight + MARGIN - size.high;
    if (below > element.scrollTop) element.scrollTop = below;
  }, [cursor, reading, lineHeight, size.high, layout]);
  useLayoutEffect(() => {
    const context = fitted(canvas.current, size);
    const y = MARGIN + first * lineHeight - top;
    const view = { layout, first, last, top: y, lineHeight, textHeight: TEXT, left };
    const { logProbs } = reading;
    const selected = anchor === null ? null : selection();
    const colouring = shade === "unit" ? props.colouring?.key : undefined;
    const valueOf = valuesIn(reading, colouring ? [...strips, colouring] : strips);
    const what = { logProbs, shade, valueOf, colouring, strips, cursor, selection: selected, hasFocus };
    paint(context, view, what, colours());
    look(reading, layout.line(first)[0], layout.line(last)[1]);
  });

  const lines = [];
  for (let number = first; number <= last; number++) {
    const place = { top: `${MARGIN + number * lineHeight}px`, left: `${left}px` };
    lines.push(html`<div class="line" key=${number} style=${place}>${layout.shown(number)}</div>`);
  }
  const symbolOf = (event) => {
    const box = pane.current.getBoundingClientRect();
    const line = Math.floor((event.clientY - box.top + pane.current.scrollTop - MARGIN) / lineHeight);
    return layout.symbolAt(line, event.clientX - box.left - left);
  };
  return html`
    <section class="text" aria-label="Text">
      <div
        class="pane"
        role="log"
        aria-label="The text. Arrow keys move the cursor, Shift selects, Enter writes on, Escape stops."
        aria-busy=${writing ? "true" : "false"}
        data-symbols=${reading.length}
        tabindex="0"
        ref=${pane}
        onScroll=${(event) => setTop(event.target.scrollTop)}
        onKeyDown=${(event) => onKey(event, layout, Math.floor(size.high / lineHeight))}
        onPointerDown=${(event) => event.button === 0 && move(symbolOf(event), event.shiftKey)}
        onPointerMove=${(event) => event.buttons === 1 && event.pointerType === "mouse" && move(symbolOf(event), true)}
        onCopy=${(event) => copy(event, reading)}
        onFocus=${() => setFocus(true)}
        onBlur=${() => setFocus(false)}
      >
        <canvas ref=${canvas} aria-hidden="true"></canvas>
        <div class="lines" style=${{ height: `${2 * MARGIN + layout.count * lineHeight}px` }}>${lines}</div>
        ${!reading.length && !writing && html`<${Welcome} />`}
      </div>
      <${StatusLine} ...${props} />
    </section>
  `;
}

const Welcome = () => html`
  <div class="welcome">
    <p>A recurrent network that one can look into.</p>
    <p>
      Type the beginning of a text below, or none, and let the model write. Go back to any symbol,
      see what it was unsure of, choose another, and send somebody the address: it writes the same
      text again.
    </p>
  </div>
`;

/** Returns a function that tells units' values, as shares of the largest that has been seen. */
function valuesIn(reading, keys) {
  const scales = new Map(keys.map((key) => [key, scaleOf(reading, key)]));
  return (key, at) => {
    const value = valueAt(reading, key, at);
    return value === undefined ? undefined : value / scales.get(key);
  };
}

function watchSize(element, setSize) {
  const read = () => setSize({ wide: element.clientWidth, high: element.clientHeight });
  const watch = new ResizeObserver(read);
  watch.observe(element);
  read();
  return () => watch.disconnect();
}

function fitted(canvas, { wide, high }) {
  const dense = devicePixelRatio || 1;
  if (canvas.width !== Math.round(wide * dense) || canvas.height !== Math.round(high * dense)) {
    canvas.width = Math.round(wide * dense);
    canvas.height = Math.round(high * dense);
    canvas.style.width = `${wide}px`;
    canvas.style.height = `${high}px`;
    canvas.style.marginBottom = `${-high}px`;
  }
  const context = canvas.getContext("2d");
  context.setTransform(dense, 0, 0, dense, 0, 0);
  context.clearRect(0, 0, wide, high);
  return context;
}

function copy(event, reading) {
  event.clipboardData.setData("text/plain", reading.text(...selection()));
  event.preventDefault();
}
