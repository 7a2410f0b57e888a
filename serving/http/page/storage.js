// Where the browser keeps something for this page: in memory alone, until it is closed, if it forbids more.

function passing() {
  const held = new Map();
  return {
    lasts: false,
    getItem: (key) => held.get(key) ?? null,
    setItem: (key, value) => held.set(key, value),
  };
}

function found(name) {
  try {
    const storage = window[name];
    storage.getItem("");
    return {
      lasts: true,
      getItem: (key) => storage.getItem(key),
      setItem: (key, value) => storage.setItem(key, value),
    };
  } catch {
    return passing();
  }
}

export const lasting = found("localStorage");
export const ofTab = found("sessionStorage");
