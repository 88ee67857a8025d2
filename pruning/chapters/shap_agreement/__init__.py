"""The chapter shap_agreement."""
