export const valuesOf = () => undefined;
export const scaleOf = () => () => 1;
