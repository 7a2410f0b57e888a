// Symbols: a text's Unicode code points, one string each.

/** Bring a text into the form in which models read it: line ends, composed characters. */
export const tidy = (text) => text.replace(/\r\n?/g, "\n").normalize("NFC");

/** Split a text into its symbols. */
export const split = (text) => Array.from(text);

const NAMES = { "\n": "⏎", " ": "␣", "\t": "⇥" };

/** Name a symbol so that one can see it. */
export const shown = (symbol) => NAMES[symbol] ?? symbol;

/** Turn the natural log of a probability into bits of surprise. */
export const bitsOf = (logProb) => -logProb / Math.LN2;

/** Write bits for people; a symbol that has not been scored has none. */
export const bitsText = (logProb) =>
  logProb === undefined || Number.isNaN(logProb) ? "not scored" : `${bitsOf(logProb).toFixed(2)} bits`;

/** Return the mean bits of a symbol from `from` up to `to`; NaN if none has been scored. */
export function meanBits(logProbs, from, to) {
  let sum = 0;
  let count = 0;
  for (let at = from; at < to; at++) {
    if (Number.isNaN(logProbs[at] ?? NaN)) continue;
    sum += bitsOf(logProbs[at]);
    count++;
  }
  return count ? sum / count : NaN;
}

/** Write a count with separators. */
export const counted = (count) => Number(count).toLocaleString("en");
