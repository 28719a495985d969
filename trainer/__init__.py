"""Makes the model: reads the images, audits them, trains, calibrates, measures, exports."""
