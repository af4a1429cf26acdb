// Runs one ONNX folder in transformers.js: `node run.mjs FOLDER PICTURE...` prints, as JSON, what the model was given
// (pixels), its outputs, and for a classifier the pipeline's scores by label.

import { AutoImageProcessor, env, load_image, PreTrainedModel, pipeline } from "@huggingface/transformers";

env.allowRemoteModels = false;
env.localModelPath = "/";

const [folder, ...pictures] = process.argv.slice(2);
const options = { dtype: "fp32", device: "cpu", subfolder: "" }; // the model lies in the folder itself, not in onnx/

const processor = await AutoImageProcessor.from_pretrained(folder);
const model = await PreTrainedModel.from_pretrained(folder, options);
const { pixel_values } = await processor(await Promise.all(pictures.map((path) => load_image(path))));
const outputs = Object.values(await model({ pixel_values }))[0];

const scores = [];
if (Object.keys(model.config.id2label).length) {
  const classify = await pipeline("image-classification", folder, options);
  for (const picture of pictures) scores.push(await classify(picture, { top_k: null }));
}
const listed = (tensor) => ({ shape: tensor.dims, values: Array.from(tensor.data) });
console.log(JSON.stringify({ pixels: listed(pixel_values), outputs: listed(outputs), scores }));
