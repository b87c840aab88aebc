// Drawing by hand: a canvas as sharp as the screen, drawn anew where its size or the theme changes.

export function redrawn(canvas, draw) {
  new ResizeObserver(draw).observe(canvas);
  addEventListener("theme", draw);
}

// An empty canvas: its context, its size in CSS pixels, and the styles that have the theme's colours.
export function cleared(canvas) {
  const ratio = devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  Object.assign(canvas, { width: width * ratio, height: height * ratio });
  const c = canvas.getContext("2d");
  c.scale(ratio, ratio);
  return { c, width, height, css: getComputedStyle(canvas) };
}
