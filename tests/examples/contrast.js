// SPDX-License-Identifier: Apache-2.0
// How well the page's texts stand out from their panels: WCAG 2.2, contrast (minimum).
(() => {
  const channels = (colour) => colour.match(/[\d.]+/g).slice(0, 3).map((c) => Number(c) / 255);
  const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const luminance = (colour) => {
    const [red, green, blue] = channels(colour).map(linear);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const contrast = (text) => {
    const ground = getComputedStyle(text.closest(".panel")).backgroundColor;
    const pair = [luminance(getComputedStyle(text).color), luminance(ground)].sort((a, b) => a - b);
    return (pair[1] + 0.05) / (pair[0] + 0.05);
  };
  const texts = ".note, .name, .result, .seen, .answer p, .verdict, h2";
  const ground = getComputedStyle(document.documentElement).backgroundColor;
  return {
    isDark: luminance(ground) < 0.2,
    contrasts: [...document.querySelectorAll(".panel :is(" + texts + ")")].map(contrast),
  };
})();
