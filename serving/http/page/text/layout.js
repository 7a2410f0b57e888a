// Where each symbol stands: lines, broken at spaces, of symbols as wide as they are drawn.

const TAB = 4; // spaces

/** Returns a function that measures symbols in a font, each once. */
export function measurer(font) {
  const context = document.createElement("canvas").getContext("2d");
  context.font = font;
  context.fontKerning = "none";
  const widths = new Map([["\n", 0]]);
  widths.set("\t", TAB * context.measureText(" ").width);
  return (symbol) => {
    let width = widths.get(symbol);
    if (width === undefined) widths.set(symbol, (width = context.measureText(symbol).width));
    return width;
  };
}

/** The lines of a text that may grow. */
export class Layout {
  constructor(symbols, measure, width) {
    this.symbols = symbols;
    this.measure = measure;
    this.width = width;
    this.starts = [0]; // the first symbol of each line
    this.read = 0; // symbols that have been laid out
    this.grow();
  }

  /** Lay out what has come since. */
  grow() {
    const { symbols, starts, measure, width } = this;
    let at = starts.at(-1);
    let x = 0;
    let breakAt = -1;
    for (; at < symbols.length; at++) {
      const symbol = symbols[at];
      const wide = measure(symbol);
      if (x + wide > width && symbol !== " " && symbol !== "\n" && at > starts.at(-1)) {
        if (breakAt <= starts.at(-1)) breakAt = at;
        starts.push(breakAt);
        at = breakAt - 1;
        x = 0;
        continue;
      }
      x += wide;
      if (symbol === " " || symbol === "-" || symbol === "—") breakAt = at + 1;
      if (symbol === "\n") {
        starts.push(at + 1);
        x = 0;
      }
    }
    this.read = symbols.length;
  }

  get count() {
    return this.starts.length;
  }

  /** Return a line's symbols: [from, to]. */
  line(number) {
    return [this.starts[number], this.starts[number + 1] ?? this.symbols.length];
  }

  /** Return the line in which a symbol, or the text's end, stands. */
  lineOf(at) {
    let low = 0;
    let high = this.count - 1;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (this.starts[middle] <= at) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** Return where a symbol begins in its line. */
  x(at) {
    let x = 0;
    for (let each = this.starts[this.lineOf(at)]; each < at; each++) x += this.measure(this.symbols[each]);
    return x;
  }

  /** Return the symbol of a line that is nearest to a place. */
  symbolAt(number, x) {
    const [from, to] = this.line(Math.max(0, Math.min(number, this.count - 1)));
    let left = 0;
    for (let at = from; at < to; at++) {
      const wide = this.measure(this.symbols[at]);
      if (x < left + wide || this.symbols[at] === "\n") return at;
      left += wide;
    }
    return to === this.symbols.length ? to : to - 1;
  }

  /** Return what a line shows. */
  shown(number) {
    const [from, to] = this.line(number);
    const last = this.symbols[to - 1] === "\n" ? to - 1 : to;
    return this.symbols.slice(from, last).join("").replaceAll("\t", " ".repeat(TAB));
  }
}
