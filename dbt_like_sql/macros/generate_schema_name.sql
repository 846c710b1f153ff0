{#- dbt would call the schema `main_marts`; analysts and the pipeline call it `marts`. -#}
{%- macro generate_schema_name(custom_schema_name, node) -%}
    {{ custom_schema_name | trim if custom_schema_name else target.schema }}
{%- endmacro -%}
