(() => {
  const explorer = document.currentScript.closest(".fpbook-explorer");
  const frames = JSON.parse(explorer.querySelector("script").textContent);
  const image = explorer.querySelector("img");
  const text = explorer.querySelector(".fpbook-explorer-text");
  const sliders = [...explorer.querySelectorAll("input")];
  const update = () => {
    let frame = 0;
    for (const slider of sliders) {
      const value = JSON.parse(slider.dataset.values)[slider.value];
      frame = frame * (Number(slider.max) + 1) + Number(slider.value);
      slider.setAttribute("aria-valuetext", value);
      slider.nextElementSibling.value = value;
    }
    image.src = frames.images[frame];
    image.alt = text.textContent = frames.texts[frame];
  };
  sliders.forEach((slider) => slider.addEventListener("input", update));
  update();
})();
